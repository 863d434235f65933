"""A family that is trained in seconds: it knows nothing, but everything about it works."""

from __future__ import annotations

from lm_eval_trust.mini.family import MiniFamily, Recipe
from lm_eval_trust.training.config import ModelConfig, TrainingConfig


def _training(steps: int, saves: tuple[int, ...], window: int) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        batch_size=4,
        window=window,
        peak_learning_rate=3e-3,
        warmup_steps=2,
        save_steps=saves,
        resume_every=3,
        threads=1,
    )


QUICK = Recipe(
    shape=ModelConfig(16, 32, 4, 2, 2, 256, initializer_range=0.1),
    pretraining=_training(12, (0, 1, 2, 4, 8, 12), 32),
    tuning=_training(4, (4,), 48),
    documents=4000,
    turns=40,
    vocabulary=600,
)


def quick_family(seed: int = 0) -> MiniFamily:
    """Family of the quick recipe, in the cache that the environment names."""
    return MiniFamily(seed, QUICK)

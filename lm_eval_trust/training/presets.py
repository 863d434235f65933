"""Sets of hyperparameters that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.training.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A model's shape and how it is trained.

    Attributes:
        note: What it is, in a line.
        shape: Of the model.
        vocabulary: Size of a tokenizer made from the corpus.
        steps: Optimizer steps.
        batch_size: Windows a step.
        micro_batch: Windows a forward pass; all of a process's if absent.
        window: Tokens a window.
        learning_rate: At its peak.
        warmup_steps: Of linear warm-up.
        checkpoints: Evenly spaced checkpoints, beside the early ones.
        precision: Of matrix products.
    """

    note: str
    shape: ModelConfig
    vocabulary: int
    steps: int
    batch_size: int
    micro_batch: int | None
    window: int
    learning_rate: float
    warmup_steps: int
    checkpoints: int
    precision: str


_AMBER_BATCH, _AMBER_WINDOW, _AMBER_TOKENS = 2240, 2048, 1_259_000_000_000

PRESETS = {
    "small": Preset(
        note="a Llama of two million parameters, for minutes on a CPU",
        shape=ModelConfig(128, 352, 6, 4, 4, 512),
        vocabulary=4096,
        steps=1000,
        batch_size=16,
        micro_batch=None,
        window=128,
        learning_rate=2e-3,
        warmup_steps=50,
        checkpoints=10,
        precision="float32",
    ),
    # Liu et al. 2023, arXiv 2312.06550, section 3 and table 2; the micro batch is a choice.
    "amber": Preset(
        note="Amber, 7 billion parameters on 1.26 trillion tokens, for many GPUs",
        shape=ModelConfig(4096, 11008, 32, 32, 32, _AMBER_WINDOW),
        vocabulary=32_000,
        steps=_AMBER_TOKENS // (_AMBER_BATCH * _AMBER_WINDOW),
        batch_size=_AMBER_BATCH,
        micro_batch=1,
        window=_AMBER_WINDOW,
        learning_rate=3e-4,
        warmup_steps=2000,
        checkpoints=360,
        precision="bf16",
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        InputError: There is none of that name.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]

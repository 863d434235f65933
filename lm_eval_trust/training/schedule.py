"""The learning rate over the steps."""

from __future__ import annotations

import math

from lm_eval_trust.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay to ``final_share``.

    Step 0 already learns (1 / ``warmup_steps`` of the peak); the peak is reached at the warm-up's
    last step, and the last step of the run comes close to ``final_share`` of the peak.
    """
    if step < config.warmup_steps:
        return config.peak_learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.peak_learning_rate * (config.final_share + (1 - config.final_share) * cosine)

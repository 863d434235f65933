"""A model as it was before training: the control for what a probe finds in any architecture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lm_eval_trust.models.sources import ModelIdentity

#: Name of the checkpoint in files and tables.
UNTRAINED = "untrained"


def untrained(model: Any, identity: ModelIdentity, *, seed: int = 0) -> tuple[Any, ModelIdentity]:
    """Return a model of the same configuration with random weights, and its identity.

    The weights are drawn as transformers draws them for pre-training from scratch.

    Args:
        model: A transformers model; only its configuration, dtype and device are read.
        identity: Which model that is.
        seed: Seed of the weights; the global generators stay as they were.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    revision = f"{identity.revision}, {UNTRAINED} with seed {seed}"
    fresh = fresh.to(device=model.device, dtype=model.dtype).eval()
    return fresh, replace(identity, revision=revision)

"""The state to resume from: weights, optimizer, step, random generator, place in the corpus."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.training.examples import ExampleSource

STATE = "resume.pt"


def save_state(
    folder: Path, step: int, model: nn.Module, optimizer: Optimizer, examples: ExampleSource
) -> None:
    """Replace the folder's state; a kill while writing leaves the one before."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "examples": dict(examples.state()),
    }
    with atomic_path(folder / STATE) as temporary:
        torch.save(state, temporary)


def load_state(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    examples: ExampleSource,
    *,
    latest: int,
) -> int:
    """Put the folder's state into its parts; return its step, 0 without a usable state.

    A state that cannot be read, or that lies after step ``latest``, is as good as none: training
    starts anew and gives the same result.
    """
    state = _read(folder / STATE)
    if state is None or state["step"] > latest:
        examples.restore({})
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    examples.restore(state["examples"])
    return int(state["step"])


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return None
    return state

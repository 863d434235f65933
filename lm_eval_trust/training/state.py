"""The state to resume from: weights, optimizer, step and random generator in one file."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from lm_eval_trust.storage import atomic_path

STATE = "resume.pt"


def save_state(folder: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Replace the folder's state; a kill while writing leaves the one before."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    with atomic_path(folder / STATE) as temporary:
        torch.save(state, temporary)


def load_state(folder: Path, model: nn.Module, optimizer: Optimizer, *, latest: int) -> int:
    """Put the folder's state into model and optimizer; return its step, 0 without a usable state.

    A state that cannot be read, or that lies after step ``latest``, is as good as none: training
    starts anew and gives the same result.
    """
    file = folder / STATE
    if not file.exists():
        return 0
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return 0
    if state["step"] > latest:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    return int(state["step"])

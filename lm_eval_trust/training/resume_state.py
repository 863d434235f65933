"""The state that pre-training resumes from: one file, with a checksum of all it holds."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.models.loading import is_finite
from lm_eval_trust.training.corpus import ExampleSource

logger = logging.getLogger(__name__)

STATE = "resume.pt"
_CHECKSUM = "checksum"
_PARTS = frozenset(("step", "model", "optimizer", "random", "examples"))


def save_state(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: ExampleSource,
) -> None:
    """Replace the folder's state; a kill during the write leaves the previous one."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "examples": dict(examples.state()),
    }
    with atomic_path(folder / STATE) as temporary:
        torch.save({**state, _CHECKSUM: _checksum(state)}, temporary)


def load_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: ExampleSource,
    *,
    latest: int,
) -> int:
    """Restore the folder's state; return its step, or 0 without a usable state.

    A state that lies after step ``latest`` is ignored, as is, with a warning, one that is damaged:
    training starts from the beginning and gives the same result.

    Raises:
        InputError: The state holds NaN or infinite values.
    """
    state = _read_state(folder / STATE)
    if state is None or state["step"] > latest:
        examples.restore({})
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    examples.restore(state["examples"])
    return int(state["step"])


def _read_state(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        found = None
    state = dict(found) if isinstance(found, Mapping) else {}
    _require_finite(state, file)
    checksum = state.pop(_CHECKSUM, None)
    if state.keys() == _PARTS and checksum == _checksum(state):
        return state
    logger.warning("%s is damaged, or of another release; training starts at its first step.", file)
    return None


def _require_finite(state: Mapping[str, Any], file: Path) -> None:
    for name, leaf in _leaves(state):
        finite = not isinstance(leaf, torch.Tensor) or is_finite(leaf)
        if not finite:
            raise InputError(
                f"{file} holds NaN or infinite values in {name}, so it cannot be resumed from. "
                f"Delete it to train from the first step."
            )


def _checksum(state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, leaf in _leaves(state):
        if isinstance(leaf, torch.Tensor):
            digest.update(f"{name} {leaf.dtype} {tuple(leaf.shape)}".encode())
            content = leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(content.numpy().data)
        else:
            digest.update(f"{name} {leaf!r}".encode())
    return digest.hexdigest()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested mappings and sequences hold, with its place."""
    if isinstance(value, Mapping):
        inner: Any = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
    else:
        yield name, value
        return
    for key, part in inner:
        yield from _leaves(part, f"{name}.{key}" if name else str(key))

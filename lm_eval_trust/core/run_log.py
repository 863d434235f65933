"""Figures of a run while it runs, for TensorBoard or Weights & Biases.

A command opens a log with :func:`logging_to`; sweeps, training and studies report to whatever is
open by :func:`log_scalars`, and nothing happens if nothing is. Both packages are extras.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of, unknown_name

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Where figures go."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write figures of a step; steps need not ascend."""

    def close(self) -> None:
        """Write what is left."""


class _TensorBoard:
    def __init__(self, place: str, name: str, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(Path(place).expanduser() / name))
        lines = (f"    {key}: {value}" for key, value in settings.items())
        self._writer.add_text("settings", "\n".join(lines))

    def write(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, place: str, name: str, settings: Mapping[str, Any]) -> None:
        import wandb

        plain = {key: _plain(value) for key, value in settings.items()}
        self._run: Any = wandb.init(project=place, name=name, config=plain)
        # W&B's own step has to ascend, which the checkpoints of a study do not.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()


@dataclass(frozen=True)
class _Kind:
    """A place that figures can go to.

    Attributes:
        package: What has to be installed; also the name of the extra.
        place: What stands behind the colon.
        open: Opens it, given the place, the run's name and its settings.
    """

    package: str
    place: str
    open: Callable[[str, str, Mapping[str, Any]], Writer]


_KINDS: Mapping[str, _Kind] = {
    "tensorboard": _Kind("tensorboard", "FOLDER", _TensorBoard),
    "wandb": _Kind("wandb", "PROJECT", _Wandb),
}
_open: list[Writer] = []


def check_target(target: str) -> None:
    """Raise unless a target can be logged to, as far as that is known before.

    Raises:
        InputError: It has another form, or its package is not installed.
    """
    name, _, place = target.partition(":")
    if name not in _KINDS:
        raise unknown_name("kind of log", name, _KINDS)
    if not place:
        raise InputError(f"--log-to {target!r} says not where; write {name}:{_KINDS[name].place}.")
    if find_spec(_KINDS[name].package) is None:
        raise InputError(
            f"--log-to {name} needs a package that is not installed: "
            f"`pip install 'lm_eval_trust[{name}]'`."
        )


@contextmanager
def logging_to(target: str | None, name: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Send the figures of what runs inside the block to a target.

    A log that fails later on, for instance on a full disk, ends with a warning; the run continues.

    Args:
        target: ``tensorboard:FOLDER`` or ``wandb:PROJECT``; ``None`` for nowhere.
        name: What the run is called.
        settings: What the run was asked to do, shown next to its figures.

    Raises:
        InputError: See :func:`check_target`.
        ExternalError: The target cannot be opened, for instance without a login.
    """
    if target is None:
        yield
        return
    check_target(target)
    kind, _, place = target.partition(":")
    try:
        _open.append(_KINDS[kind].open(place, name, settings))
    except Exception as error:  # Each package has errors of its own.
        raise ExternalError(f"Cannot log to {target}: {reason_of(error)}") from error
    try:
        yield
    finally:
        for writer in _open:
            _guarded(writer.close)
        _open.clear()


def log_scalars(values: Mapping[str, float | None], step: int) -> None:
    """Report figures of a step; what is ``None``, NaN or infinite is left out.

    Args:
        values: Name → value, with slashes between groups of names.
        step: A whole number from 0 on.
    """
    finite = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
    if _open and finite:
        _guarded(lambda: _open[0].write(finite, step))


def _guarded(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        logger.warning("The log of the run's figures ends here: %s", reason_of(error))
        _open.clear()


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

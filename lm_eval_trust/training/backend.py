"""Where a run computes: in this process, or over GPUs and processes by ``accelerate``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.config import TrainingConfig

DEVICES = ("cpu", "cuda")


class Execution(Protocol):
    """What the loop needs to know of processes and devices."""

    @property
    def rank(self) -> int:
        """Number of this process; process 0 writes."""
        ...

    @property
    def processes(self) -> int:
        """Number of processes that share each batch."""
        ...

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Put model and optimizer where they compute."""
        ...

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part of the batch, forward and backward.

        After the last part every process holds the whole batch's gradient.
        """
        ...

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add a part's gradient."""
        ...

    def total(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        ...

    def wait(self) -> None:
        """Wait until every process is here."""
        ...


class OneProcess:
    """This process, on the CPU.

    Args:
        precision: Of matrix products, see :class:`TrainingConfig`.
    """

    rank, processes = 0, 1

    def __init__(self, precision: str = "float32") -> None:
        self._half = precision == "bf16"

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Return both as they are."""
        return model, optimizer

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return torch.autocast("cpu", torch.bfloat16) if self._half else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add a part's gradient."""
        loss.backward()  # type: ignore[no-untyped-call]

    def total(self, value: float) -> float:
        """Return the value."""
        return value

    def wait(self) -> None:
        """Return at once."""


class Accelerated:
    """All processes of an ``accelerate launch``, or this one on its GPU.

    Args:
        accelerator: The library's object, which knows devices, processes and precision.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.processes: int = accelerator.num_processes

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Put both on this process's device, and have processes average their gradients."""
        prepared: tuple[Any, Any] = self._accelerator.prepare(model, optimizer)
        return prepared

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part of the batch: processes meet at the last one only."""
        apart: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return nullcontext() if last else apart

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Add a part's gradient; processes average, where the batch's gradient is their sum."""
        self._accelerator.backward(loss * self.processes)

    def total(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        mine = torch.tensor(value, device=self._accelerator.device)
        return float(self._accelerator.reduce(mine, "sum"))

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()


def choose_execution(config: TrainingConfig, device: str) -> Execution:
    """Return where a run computes: ``accelerate`` on GPUs and in launched processes.

    Args:
        config: Of the run.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: There is no such device.
    """
    if device not in DEVICES:
        raise InputError(f"device is {device!r}; expected {' or '.join(DEVICES)}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no GPU; use cpu, or install torch's CUDA.")
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if device == "cpu" and not launched:
        return OneProcess(config.precision)
    from accelerate import Accelerator

    half = {"float32": "no", "bf16": "bf16"}[config.precision]
    return Accelerated(Accelerator(mixed_precision=half, cpu=device == "cpu"))

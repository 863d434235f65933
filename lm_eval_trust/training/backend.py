"""Where a run computes: this process alone, or several processes and GPUs by ``accelerate``."""

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


class Backend(Protocol):
    """Processes and devices, as far as the training loop deals with them."""

    @property
    def rank(self) -> int:
        """Number of this process; process 0 writes."""
        ...

    @property
    def processes(self) -> int:
        """Number of processes that share each batch."""
        ...

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Move model and optimizer to where they compute."""
        ...

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of one micro-batch, forward and backward.

        After the last one every process holds the gradient of the whole batch.
        """
        ...

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch."""
        ...

    def total(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        ...

    def wait(self) -> None:
        """Barrier."""
        ...


class SingleProcess:
    """This process, on the CPU.

    Args:
        precision: Precision of matrix products, see :class:`TrainingConfig`.
    """

    rank, processes = 0, 1

    def __init__(self, precision: str = "float32") -> None:
        self._half = precision == "bf16"

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Return both unchanged."""
        return model, optimizer

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return torch.autocast("cpu", torch.bfloat16) if self._half else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch."""
        loss.backward()  # type: ignore[no-untyped-call]

    def total(self, value: float) -> float:
        """Return the value."""
        return value

    def wait(self) -> None:
        """Do nothing: there is nobody to wait for."""


class Accelerated:
    """All processes of an ``accelerate launch``, or this one on its GPU.

    Args:
        accelerator: The ``accelerate.Accelerator``.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.processes: int = accelerator.num_processes

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Move both to this process's device; gradients are averaged over processes."""
        prepared: tuple[Any, Any] = self._accelerator.prepare(model, optimizer)
        return prepared

    def part(self, model: Any, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of one micro-batch; processes synchronise at the last one only."""
        unsynchronised: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return nullcontext() if last else unsynchronised

    def forward_precision(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch.

        Processes average their gradients where the batch needs the sum, hence the factor.
        """
        self._accelerator.backward(loss * self.processes)

    def total(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        mine = torch.tensor(value, device=self._accelerator.device)
        return float(self._accelerator.reduce(mine, "sum"))

    def wait(self) -> None:
        """Barrier."""
        self._accelerator.wait_for_everyone()


def choose_backend(config: TrainingConfig, device: str) -> Backend:
    """Return where a run computes: ``accelerate`` on GPUs and in launched processes.

    Args:
        config: The run's configuration.
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
        return SingleProcess(config.precision)
    from accelerate import Accelerator

    half = {"float32": "no", "bf16": "bf16"}[config.precision]
    return Accelerated(Accelerator(mixed_precision=half, cpu=device == "cpu"))

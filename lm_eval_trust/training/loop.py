"""The pre-training loop and its log of losses.

This is our own loop and not transformers' ``Trainer`` (which fine-tunes, see
:mod:`lm_eval_trust.training.finetune`): a run that is killed ends with the same weights, bit for
bit, also in the middle of a streamed corpus. The weights of the embedded models, on which other
results depend, follow from this order of batches and additions. ``Trainer`` draws its batches and
scales its losses in another way. Fine-tuning in turn needs early stopping, adapters and the
optimizers that ``Trainer`` brings along.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.run_log import log_scalars
from lm_eval_trust.core.storage import atomic_path, disk_errors
from lm_eval_trust.training.backend import Backend
from lm_eval_trust.training.config import TrainingConfig, learning_rate
from lm_eval_trust.training.corpus import IGNORED, ExampleSource, Tokens
from lm_eval_trust.training.resume_state import STATE, load_state, save_state

OnStep = Callable[[int, PreTrainedModel], None]

LOSSES = "losses.jsonl"
#: Approximate number of lines of a run's loss log; a line averages the steps since the last one.
_LINES = 1000


@dataclass(frozen=True)
class Loop:
    """A run of a model over examples.

    Attributes:
        config: How the model is trained.
        examples: What it learns from.
        folder: Where the state to resume from and the losses are kept.
        title: Text next to the progress bar.
        backend: Where it computes.
    """

    config: TrainingConfig
    examples: ExampleSource
    folder: Path
    title: str
    backend: Backend

    def run(self, model: PreTrainedModel, on_step: OnStep, *, wanted: Collection[int]) -> None:
        """Train until the last wanted step, from the kept state if it lies before the first.

        Args:
            model: Trained in place.
            on_step: Called in process 0 at every step with its number and the model *before* it.
            wanted: The numbers of the steps whose model is needed.

        Raises:
            InputError: The batch cannot be divided among the processes, the loss is not finite, or
                the kept state holds values that are not.
        """
        config, last, writes = self.config, max(wanted), self.backend.rank == 0
        _require_equal_shares(config, self.backend)
        optimizer = make_optimizer(model, config)
        model.train()
        with cpu_threads(config.threads):
            start = load_state(self.folder, model, optimizer, self.examples, latest=min(wanted))
            self.backend.wait()
            prepared, optimizer = self.backend.prepare(model, optimizer)
            losses = LossLog(self.folder, start=start, last=last, writes=writes)
            bar = progress_bar(range(start, last), self.title, total=last, done=start, shown=writes)
            for step in bar:
                if writes:
                    on_step(step, model)
                if writes and step % config.resume_every == 0 and step > start:
                    save_state(self.folder, step, model, optimizer, self.examples)
                loss = train_step(prepared, optimizer, self.examples, step, config, self.backend)
                _require_finite(loss, step)
                losses.add(step, loss, learning_rate(step, config))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if writes:
                losses.flush()
                on_step(last, model)
                (self.folder / STATE).unlink(missing_ok=True)
            self.backend.wait()


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW over all weights, with decay on all of them."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.peak_learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: ExampleSource,
    step: int,
    config: TrainingConfig,
    backend: Backend,
) -> float:
    """Take one optimizer step; return the batch's mean cross-entropy per token, in nats."""
    inputs, labels = examples.batch(step, config.batch_size, config.seed)
    learnt = int((labels[:, 1:] != IGNORED).sum())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad()
    total = 0.0
    parts = list(_micro_batches(config, backend))
    for part in parts:
        with backend.part(model, last=part is parts[-1]):
            with backend.forward_precision():
                loss = _summed_loss(model, inputs[part], labels[part]) / max(1, learnt)
            backend.backward(loss)
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
    optimizer.step()
    return backend.total(total)


def _summed_loss(model: nn.Module, inputs: Tokens, labels: Tokens) -> torch.Tensor:
    device = next(model.parameters()).device
    ids, wanted = (torch.from_numpy(a).long().to(device) for a in (inputs, labels[:, 1:]))
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum")


def _micro_batches(config: TrainingConfig, backend: Backend) -> Iterator[slice]:
    """Yield the slices of a batch that this process computes, one per forward pass."""
    share = config.batch_size // backend.processes
    begin, size = backend.rank * share, config.micro_batch or share
    for position in range(begin, begin + share, size):
        yield slice(position, min(position + size, begin + share))


def _require_equal_shares(config: TrainingConfig, backend: Backend) -> None:
    if config.batch_size % backend.processes:
        raise InputError(
            f"A batch of {config.batch_size} windows cannot be divided among "
            f"{backend.processes} processes; choose a multiple."
        )


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"The training loss is {loss} at step {step + 1}: the run diverged. Choose a smaller "
            f"--learning-rate, and another folder."
        )


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Compute with this many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LossLog:
    """Appends ``{"step", "loss", "learning_rate"}`` as JSON lines to a run's folder.

    A loss is in nats per token, averaged over the steps since the previous line; ``step`` counts
    the steps taken.

    Args:
        folder: The run's folder.
        start: Step at which the run resumes; later lines are removed.
        last: Last step of the run.
        writes: Whether this process writes at all.
    """

    def __init__(self, folder: Path, *, start: int, last: int, writes: bool) -> None:
        self._file, self._writes = folder / LOSSES, writes
        self._every = max(1, last // _LINES)
        self._losses: list[float] = []
        self._latest = (start, 0.0)
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [line for line in self._lines() if _step(line) <= start]
            with atomic_path(self._file) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")

    def add(self, step: int, loss: float, rate: float) -> None:
        """Record the loss and the learning rate of a step."""
        self._losses.append(loss)
        self._latest = (step + 1, rate)
        if (step + 1) % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Write a line for the steps since the previous one."""
        if not self._losses:
            return
        step, rate = self._latest
        line = {"step": step, "loss": sum(self._losses) / len(self._losses), "learning_rate": rate}
        self._losses = []
        if self._writes:
            figures = {"loss": line["loss"], "learning_rate": rate}
            log_scalars({f"train/{name}": value for name, value in figures.items()}, step)
            with disk_errors(self._file), self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _lines(self) -> list[str]:
        if not self._file.exists():
            return []
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("}\n")]


def _step(line: str) -> float:
    """Return the step of a line of the log; infinity for a damaged one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")

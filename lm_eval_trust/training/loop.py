"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.backend import Execution
from lm_eval_trust.training.config import TrainingConfig
from lm_eval_trust.training.examples import IGNORED, ExampleSource, Tokens
from lm_eval_trust.training.loss_log import LossLog
from lm_eval_trust.training.schedule import learning_rate
from lm_eval_trust.training.state import STATE, load_state, save_state

OnStep = Callable[[int, PreTrainedModel], None]


@dataclass(frozen=True)
class Loop:
    """A run of a model over examples.

    Attributes:
        config: How it is trained.
        examples: What it learns from.
        folder: Where the state to resume from and the losses are kept.
        title: Name beside the progress bar.
        execution: Where it computes.
    """

    config: TrainingConfig
    examples: ExampleSource
    folder: Path
    title: str
    execution: Execution

    def run(self, model: PreTrainedModel, on_step: OnStep, *, wanted: Collection[int]) -> None:
        """Train until the last wanted step, from the kept state if it lies before the first.

        Args:
            model: Trained in place.
            on_step: Called in process 0 at every step with its number and the model *before* it.
            wanted: The numbers of the steps whose model is needed.

        Raises:
            InputError: The batch cannot be divided among the processes.
        """
        config, last, writes = self.config, max(wanted), self.execution.rank == 0
        _require_equal_shares(config, self.execution)
        optimizer = make_optimizer(model, config)
        model.train()
        with cpu_threads(config.threads):
            start = load_state(self.folder, model, optimizer, self.examples, latest=min(wanted))
            self.execution.wait()
            prepared, optimizer = self.execution.prepare(model, optimizer)
            losses = LossLog(self.folder, start=start, last=last, writes=writes)
            bar = tqdm(range(start, last), self.title, last, initial=start, disable=not writes)
            for step in bar:
                if writes:
                    on_step(step, model)
                if writes and step % config.resume_every == 0 and step > start:
                    save_state(self.folder, step, model, optimizer, self.examples)
                loss = train_step(prepared, optimizer, self.examples, step, config, self.execution)
                losses.add(step, loss, learning_rate(step, config))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if writes:
                losses.flush()
                on_step(last, model)
                (self.folder / STATE).unlink(missing_ok=True)
            self.execution.wait()


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW over all weights, all of them decayed."""
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
    execution: Execution,
) -> float:
    """Take one optimizer step; return the batch's mean cross-entropy a token, in nats."""
    inputs, labels = examples.batch(step, config.batch_size, config.seed)
    learnt = int((labels[:, 1:] != IGNORED).sum())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad()
    total = 0.0
    parts = list(_parts(config, execution))
    for part in parts:
        with execution.part(model, last=part is parts[-1]):
            with execution.forward_precision():
                loss = _summed_loss(model, inputs[part], labels[part]) / max(1, learnt)
            execution.backward(loss)
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
    optimizer.step()
    return execution.total(total)


def _summed_loss(model: nn.Module, inputs: Tokens, labels: Tokens) -> torch.Tensor:
    device = next(model.parameters()).device
    ids, wanted = (torch.from_numpy(a).long().to(device) for a in (inputs, labels[:, 1:]))
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum")


def _parts(config: TrainingConfig, execution: Execution) -> Iterator[slice]:
    """Yield this process's windows of a batch, as many at once as memory is said to allow."""
    share = config.batch_size // execution.processes
    begin, size = execution.rank * share, config.micro_batch or share
    for position in range(begin, begin + share, size):
        yield slice(position, min(position + size, begin + share))


def _require_equal_shares(config: TrainingConfig, execution: Execution) -> None:
    if config.batch_size % execution.processes:
        raise InputError(
            f"A batch of {config.batch_size} windows cannot be divided among "
            f"{execution.processes} processes; choose a multiple."
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

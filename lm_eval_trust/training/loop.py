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

from lm_eval_trust.training.config import TrainingConfig
from lm_eval_trust.training.examples import Examples, batch
from lm_eval_trust.training.schedule import learning_rate
from lm_eval_trust.training.state import STATE, load_state, save_state

OnStep = Callable[[int, PreTrainedModel], None]


@dataclass(frozen=True)
class Loop:
    """A run of a model over examples.

    Attributes:
        config: How it is trained.
        examples: What it learns from.
        folder: Where the state to resume from is kept.
        title: Name beside the progress bar.
    """

    config: TrainingConfig
    examples: Examples
    folder: Path
    title: str

    def run(self, model: PreTrainedModel, on_step: OnStep, *, wanted: Collection[int]) -> None:
        """Train until the last wanted step, from the kept state if it lies before the first.

        Args:
            model: Trained in place.
            on_step: Called at every step with its number and the model *before* it.
            wanted: The numbers of the steps whose model is needed.
        """
        config, last = self.config, max(wanted)
        optimizer = make_optimizer(model, config)
        model.train()
        with cpu_threads(config.threads):
            start = load_state(self.folder, model, optimizer, latest=min(wanted))
            for step in tqdm(range(start, last), self.title, last, initial=start):
                on_step(step, model)
                if step % config.resume_every == 0 and step > start:
                    save_state(self.folder, step, model, optimizer)
                train_step(model, optimizer, self.examples, step, config)
            on_step(last, model)
        (self.folder / STATE).unlink(missing_ok=True)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW over all weights, all of them decayed."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.peak_learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def train_step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    step: int,
    config: TrainingConfig,
) -> float:
    """Take one optimizer step; return the mean cross-entropy a token, in nats."""
    inputs, labels = batch(examples, step, config.batch_size, config.seed)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    ids, wanted = (torch.from_numpy(a).long().to(model.device) for a in (inputs, labels[:, 1:]))
    logits = model(input_ids=ids, use_cache=False).logits
    loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten())
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
    optimizer.step()
    return loss.item()


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Compute with this many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

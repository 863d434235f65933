"""Direct preference optimisation of a small model (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

A run of minutes on one machine: it holds all pairs in memory, and begins again if it is killed.
Larger models are tuned by other packages, and traced here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.models.loading import load_whole
from lm_eval_trust.training.config import TrainingConfig, checkpoint_name, learning_rate
from lm_eval_trust.training.corpus import IGNORED, Examples, Tokens
from lm_eval_trust.training.loop import LossLog, cpu_threads, make_optimizer
from lm_eval_trust.training.run_folder import RunFolder, checksums

#: Pairs whose reference is read at once.
_READ = 64


@dataclass(frozen=True)
class Preferences:
    """Pairs of answers, windows of one length.

    Attributes:
        chosen: A prompt and the better answer in each row, whose labels are those of the answer.
        rejected: The same prompts with the worse answer.
    """

    chosen: Examples
    rejected: Examples

    def __post_init__(self) -> None:
        if len(self.chosen) != len(self.rejected):
            raise InputError(
                f"{len(self.chosen)} chosen answers do not pair with {len(self.rejected)} rejected."
            )


@dataclass(frozen=True)
class PreferenceTuning:
    """A run that starts from a model folder; on one machine, it gives the same model again.

    Attributes:
        start: Folder of the model, which is the reference as well.
        config: How it is trained; the last of its steps is saved.
        pairs: What it learns.
        beta: Weight of the divergence from the reference.
        name: Name of the model, for the progress bar.
    """

    start: Path
    config: TrainingConfig
    pairs: Preferences
    beta: float
    name: str

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights depend on."""
        return {
            "start": checksums(self.start),
            "training": dict(self.config.settings()),
            "chosen": self.pairs.chosen.identity,
            "rejected": self.pairs.rejected.identity,
            "beta": self.beta,
            "torch": torch.__version__,
        }

    def run(self, folder: Path) -> str:
        """Train unless the folder contains the model; return its checkpoint's name.

        Raises:
            InputError: The folder belongs to another run, or the loss is not finite.
            ExternalError: The operating system refused to write.
        """
        run, name = RunFolder(folder, self.settings()), checkpoint_name(0)
        with folder_lock(folder, f"Another training is at work in {folder}; wait for its end."):
            run.open()
            if not run.intact(name):
                model = self._load()
                with cpu_threads(self.config.threads):
                    self._train(model, folder)
                with run.save(name, self.config.steps) as target:
                    model.save_pretrained(target)
                    AutoTokenizer.from_pretrained(self.start).save_pretrained(target)
        return name

    def _load(self) -> PreTrainedModel:
        what = f"a causal model from {self.start}"
        return load_whole(AutoModelForCausalLM, self.start, what=what, dtype=torch.float32)

    def _train(self, model: PreTrainedModel, folder: Path) -> None:
        config, pairs = self.config, self.pairs
        reference = self._margins_of_reference(model)
        optimizer = make_optimizer(model, config)
        losses = LossLog(folder, start=0, last=config.steps, writes=True)
        model.train()
        for step in progress_bar(range(config.steps), f"Training {self.name}"):
            rows = pairs.chosen.rows(step, config.batch_size, config.seed)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            optimizer.zero_grad()
            margins = self._margins(model, rows) - reference[rows]
            loss = preference_loss(margins, self.beta)
            if not torch.isfinite(loss):
                raise InputError(f"The loss is {loss.item()} at step {step + 1}: the run diverged.")
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
            optimizer.step()
            losses.add(step, loss.item(), learning_rate(step, config))
        losses.flush()
        model.eval()

    @torch.no_grad()
    def _margins_of_reference(self, model: PreTrainedModel) -> torch.Tensor:
        model.eval()
        rows = torch.split(torch.arange(len(self.pairs.chosen)), _READ)
        return torch.cat([self._margins(model, part.numpy()) for part in rows])

    def _margins(self, model: PreTrainedModel, rows: Any) -> torch.Tensor:
        """Return log p(chosen) − log p(rejected) of some pairs, shape (rows,)."""
        better, worse = (
            answer_log_probability(model, part.inputs[rows], part.labels[rows])
            for part in (self.pairs.chosen, self.pairs.rejected)
        )
        return better - worse


def preference_loss(margins: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean of −log σ(β m), m being how far the model moved from its reference.

    Args:
        margins: log p(chosen) − log p(rejected), minus the same of the reference; shape (pairs,).
        beta: Weight of the divergence.
    """
    return -nn.functional.logsigmoid(beta * margins).mean()


def answer_log_probability(model: PreTrainedModel, inputs: Tokens, labels: Tokens) -> torch.Tensor:
    """Return the summed log-probability of each row's answer, shape (rows,).

    Args:
        model: A causal model.
        inputs: Token ids, shape (rows, window).
        labels: The same ids where they are the answer's, ``IGNORED`` elsewhere.
    """
    ids, wanted = torch.from_numpy(inputs).long(), torch.from_numpy(labels[:, 1:]).long()
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    losses = nn.functional.cross_entropy(
        logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )
    return -losses.sum(dim=1)

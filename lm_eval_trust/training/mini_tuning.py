"""Train a finished model further, on answers to prompts and on plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lm_eval_trust.training.checkpoints import CheckpointedRun
from lm_eval_trust.training.config import TrainingConfig
from lm_eval_trust.training.examples import ExampleSource
from lm_eval_trust.training.run_folder import RunFolder, checksums


@dataclass(frozen=True)
class Tuning:
    """One run that goes on from a model folder; the same run gives the same model on one machine.

    Attributes:
        start: Folder of the model that is trained further.
        config: How.
        examples: What it learns.
        name: Name of the model, for the progress bar.
    """

    start: Path
    config: TrainingConfig
    examples: ExampleSource
    name: str

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights follow from."""
        return {
            "start": checksums(self.start),
            "training": dict(self.config.settings()),
            "examples": self.examples.identity,
            "torch": torch.__version__,
        }

    def run(self, folder: Path) -> list[str]:
        """Train what is missing in a folder; return the checkpoints' names.

        See :meth:`lm_eval_trust.training.checkpoints.CheckpointedRun.train`.
        """
        run = RunFolder(folder, self.settings())
        tokenizer = AutoTokenizer.from_pretrained(self.start)
        return CheckpointedRun(run, self.config, self.examples, tokenizer, self.name).train(
            self._start
        )

    def _start(self) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(self.start, dtype=torch.float32)

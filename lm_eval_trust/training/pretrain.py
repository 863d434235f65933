"""Pre-train a Llama, saving checkpoints as finely as asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.training.backend import Execution, OneProcess
from lm_eval_trust.training.checkpoints import CheckpointedRun
from lm_eval_trust.training.config import ModelConfig, TrainingConfig
from lm_eval_trust.training.examples import ExampleSource
from lm_eval_trust.training.run_folder import RunFolder, digest


@dataclass(frozen=True)
class Pretraining:
    """One pre-training run; the same run gives the same checkpoints on one machine.

    Attributes:
        shape: Shape of the model.
        config: How it is trained.
        tokenizer: Goes into every checkpoint's folder.
        examples: The packed corpus.
        name: Name of the model, for the progress bar.
        device: Kind of device, ``cpu`` or ``cuda``; weights depend on it in their last bits.
        execution: Where it computes.
    """

    shape: ModelConfig
    config: TrainingConfig
    tokenizer: PreTrainedTokenizerFast
    examples: ExampleSource
    name: str = "model"
    device: str = "cpu"
    execution: Execution = field(default_factory=OneProcess)

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights follow from: configurations, and hashes of the rest."""
        return {
            "shape": asdict(self.shape),
            "training": dict(self.config.settings()),
            "tokenizer": digest(self.tokenizer.backend_tokenizer.to_str().encode()),
            "examples": self.examples.identity,
            "torch": torch.__version__,
            "device": self.device,
            "processes": self.execution.processes,
        }

    def run(self, folder: Path) -> list[str]:
        """Train what is missing in a folder; return the checkpoints' names.

        See :meth:`lm_eval_trust.training.checkpoints.CheckpointedRun.train`.
        """
        run = RunFolder(folder, self.settings())
        return CheckpointedRun(
            run, self.config, self.examples, self.tokenizer, self.name, self.execution
        ).train(lambda: initial_model(self.shape, self.tokenizer, self.config.seed))


def initial_model(
    shape: ModelConfig, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForCausalLM:
    """Return a Llama with weights drawn from a seed; the global generator is left as it was."""
    config = shape.to_llama(
        vocabulary=len(tokenizer), pad=tokenizer.pad_token_id, eos=tokenizer.eos_token_id
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)

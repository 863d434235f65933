"""Pre-train a Llama, saving checkpoints as finely as asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lm_eval_trust.training.config import ModelConfig, TrainingConfig, checkpoint_name
from lm_eval_trust.training.examples import Examples
from lm_eval_trust.training.loop import Loop
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
        device: Where it is trained.
    """

    shape: ModelConfig
    config: TrainingConfig
    tokenizer: PreTrainedTokenizerFast
    examples: Examples
    name: str = "model"
    device: str = "cpu"

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights follow from: configurations, and hashes of the rest."""
        return {
            "shape": asdict(self.shape),
            "training": dict(self.config.settings()),
            "tokenizer": digest(self.tokenizer.backend_tokenizer.to_str().encode()),
            "examples": digest(self.examples.inputs.tobytes(), self.examples.labels.tobytes()),
            "torch": torch.__version__,
            "device": self.device,
        }

    def run(self, folder: Path) -> list[str]:
        """Train, or finish what was interrupted, or rebuild what is damaged; return the names.

        Intact checkpoints are kept as they are. If one that is already passed is missing or
        damaged, the run is repeated from its first step, which gives that checkpoint again.

        Raises:
            InputError: The folder belongs to another run.
            ExternalError: The disk refused to write.
        """
        run = RunFolder(folder, self.settings())
        run.open()
        names = {step: checkpoint_name(i) for i, step in enumerate(self.config.save_steps)}
        missing = {step: name for step, name in names.items() if not run.intact(name)}
        if missing:
            self._train(run, missing)
        return list(names.values())

    def _train(self, run: RunFolder, missing: Mapping[int, str]) -> None:
        def save(step: int, model: PreTrainedModel) -> None:
            if step in missing:
                with run.save(missing[step], step) as target:
                    model.save_pretrained(target)
                    self.tokenizer.save_pretrained(target)

        loop = Loop(self.config, self.examples, run.path, f"Training {self.name}")
        model = initial_model(self.shape, self.tokenizer, self.config.seed)
        model.to(self.device)
        loop.run(model, save, wanted=missing)


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

"""Training runs that save many checkpoints: from new weights, or on from a finished model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.models.loading import load_whole
from lm_eval_trust.training.backend import Backend, SingleProcess
from lm_eval_trust.training.config import ModelConfig, TrainingConfig, checkpoint_name
from lm_eval_trust.training.corpus import ExampleSource
from lm_eval_trust.training.loop import Loop
from lm_eval_trust.training.run_folder import RunFolder, checksums, digest


@dataclass(frozen=True)
class Pretraining:
    """One pre-training run; on one machine, the same run gives the same checkpoints.

    Attributes:
        shape: Shape of the model.
        config: How it is trained.
        tokenizer: Saved with every checkpoint.
        examples: The packed corpus.
        name: Name of the model, for the progress bar.
        device: Kind of device, ``cpu`` or ``cuda``; the last bits of the weights depend on it.
        backend: Where it computes.
    """

    shape: ModelConfig
    config: TrainingConfig
    tokenizer: PreTrainedTokenizerFast
    examples: ExampleSource
    name: str = "model"
    device: str = "cpu"
    backend: Backend = field(default_factory=SingleProcess)

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights depend on: the configurations, and hashes of the rest."""
        return {
            "shape": asdict(self.shape),
            "training": dict(self.config.settings()),
            "tokenizer": digest(self.tokenizer.backend_tokenizer.to_str().encode()),
            "examples": self.examples.identity,
            "torch": torch.__version__,
            "device": self.device,
            "processes": self.backend.processes,
        }

    def run(self, folder: Path) -> list[str]:
        """Train the checkpoints that a folder lacks; return the names of all.

        See :meth:`CheckpointedRun.train`.
        """
        run = RunFolder(folder, self.settings())
        return CheckpointedRun(
            run, self.config, self.examples, self.tokenizer, self.name, self.backend
        ).train(lambda: initial_model(self.shape, self.tokenizer, self.config.seed))


@dataclass(frozen=True)
class ContinuedTraining:
    """One run that starts from a model folder; on one machine, it gives the same model again.

    Attributes:
        start: Folder of the model that is trained further.
        config: How it is trained.
        examples: What it learns.
        name: Name of the model, for the progress bar.
    """

    start: Path
    config: TrainingConfig
    examples: ExampleSource
    name: str

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights depend on."""
        return {
            "start": checksums(self.start),
            "training": dict(self.config.settings()),
            "examples": self.examples.identity,
            "torch": torch.__version__,
        }

    def run(self, folder: Path) -> list[str]:
        """Train the checkpoints that a folder lacks; return the names of all.

        See :meth:`CheckpointedRun.train`.
        """
        run = RunFolder(folder, self.settings())
        tokenizer = AutoTokenizer.from_pretrained(self.start)
        return CheckpointedRun(run, self.config, self.examples, tokenizer, self.name).train(
            lambda: load_whole(
                AutoModelForCausalLM,
                self.start,
                what=f"a causal model from {self.start}",
                dtype=torch.float32,
            )
        )


@dataclass(frozen=True)
class CheckpointedRun:
    """One training run and the folder of its checkpoints, whatever model it starts from.

    Attributes:
        folder: Opened when the run begins.
        config: How the model is trained, and when it is saved.
        examples: What it learns from.
        tokenizer: Saved with every checkpoint.
        title: Text next to the progress bar.
        backend: Where it computes.
    """

    folder: RunFolder
    config: TrainingConfig
    examples: ExampleSource
    tokenizer: PreTrainedTokenizerFast
    title: str
    backend: Backend = field(default_factory=SingleProcess)

    def train(self, start: Callable[[], PreTrainedModel]) -> list[str]:
        """Train, or finish an interrupted run, or rebuild damaged checkpoints; return all names.

        Intact checkpoints are kept. If one that lies before the state to resume from is missing or
        damaged, the run is repeated from its first step, which gives that checkpoint again.

        Args:
            start: Makes the model as it is before the first step; not called if nothing is missing.

        Raises:
            InputError: The folder belongs to another run, or one is at work there.
            ExternalError: The operating system refused to write.
        """
        with ExitStack() as held:
            if self.backend.rank == 0:  # The others of a distributed run wait for it.
                busy = f"Another training is at work in {self.folder.path}; wait for its end."
                held.enter_context(folder_lock(self.folder.path, busy))
                self.folder.open()
            self.backend.wait()
            return self._train(start)

    def _train(self, start: Callable[[], PreTrainedModel]) -> list[str]:
        names = {step: checkpoint_name(i) for i, step in enumerate(self.config.save_steps)}
        missing = {step: name for step, name in names.items() if not self.folder.intact(name)}

        def save(step: int, model: PreTrainedModel) -> None:
            if step in missing:
                with self.folder.save(missing[step], step) as target:
                    model.save_pretrained(target)
                    self.tokenizer.save_pretrained(target)

        if missing:
            title = f"Training {self.title}"
            loop = Loop(self.config, self.examples, self.folder.path, title, self.backend)
            loop.run(start(), save, wanted=missing)
        return list(names.values())


def initial_model(
    shape: ModelConfig, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForCausalLM:
    """Return a Llama with weights drawn from a seed; the global generator keeps its state."""
    config = shape.to_llama(
        vocabulary=len(tokenizer), pad=tokenizer.pad_token_id, eos=tokenizer.eos_token_id
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)

"""Train what is missing of a run's checkpoints, whatever kind of training it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lm_eval_trust.training.backend import Execution, OneProcess
from lm_eval_trust.training.config import TrainingConfig, checkpoint_name
from lm_eval_trust.training.examples import ExampleSource
from lm_eval_trust.training.loop import Loop
from lm_eval_trust.training.run_folder import RunFolder


@dataclass(frozen=True)
class CheckpointedRun:
    """One training run and the folder that its checkpoints go to.

    Attributes:
        folder: Opened when the run begins.
        config: How the model is trained, and when it is saved.
        examples: What it learns from.
        tokenizer: Goes into every checkpoint's folder.
        title: Name beside the progress bar.
        execution: Where it computes.
    """

    folder: RunFolder
    config: TrainingConfig
    examples: ExampleSource
    tokenizer: PreTrainedTokenizerFast
    title: str
    execution: Execution = field(default_factory=OneProcess)

    def train(self, start: Callable[[], PreTrainedModel]) -> list[str]:
        """Train, or finish what was interrupted, or rebuild what is damaged; return the names.

        Intact checkpoints are kept as they are. If one that is already passed is missing or
        damaged, the run is repeated from its first step, which gives that checkpoint again.

        Args:
            start: Makes the model as it is before the first step; not called if nothing is missing.

        Raises:
            InputError: The folder belongs to another run.
            ExternalError: The disk refused to write.
        """
        if self.execution.rank == 0:
            self.folder.open()
        self.execution.wait()
        names = {step: checkpoint_name(i) for i, step in enumerate(self.config.save_steps)}
        missing = {step: name for step, name in names.items() if not self.folder.intact(name)}

        def save(step: int, model: PreTrainedModel) -> None:
            if step in missing:
                with self.folder.save(missing[step], step) as target:
                    model.save_pretrained(target)
                    self.tokenizer.save_pretrained(target)

        if missing:
            title = f"Training {self.title}"
            loop = Loop(self.config, self.examples, self.folder.path, title, self.execution)
            loop.run(start(), save, wanted=missing)
        return list(names.values())

"""What a fine-tuning adds to Trainer: progress, figures, an end to divergence, and whole states.

Trainer writes a state's files one by one and resumes from whatever is there, so each state gets a
record of its files' checksums once all of them are written.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ProgressCallback

from lm_eval_trust.core.errors import InputError, TrustError
from lm_eval_trust.core.file_digest import file_digests
from lm_eval_trust.core.run_log import log_scalars
from lm_eval_trust.core.storage import read_kept, write_kept

logger = logging.getLogger(__name__)

_RECORD, _STATE = "checksums.json", "trainer_state.json"
#: Each process of a distributed run writes its own, after the first process's record.
_OF_PROCESS = re.compile(r"rng_state_\d+\.pth")
_FOR_RESUMING = re.compile(
    rf"(optimizer|scheduler|scaler|training_args)\..*|rng_state.*|{_STATE}|{_RECORD}"
)

#: Figures of Trainer that the log of the run gets → what they are called there.
_REPORTED = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "eval_loss": "validation/loss",
}


@dataclass(frozen=True)
class TuningState:
    """A whole state of Trainer's.

    Attributes:
        folder: Its folder, ``checkpoint-STEP``.
        state: What Trainer knows of the run.
    """

    folder: Path
    state: TrainerState

    @property
    def ended(self) -> bool:
        """Whether the run has nothing more to learn: its last step is done, or it stopped early."""
        control = self.state.stateful_callbacks["TrainerControl"]["args"]
        return bool(control["should_training_stop"])


class SealStates(TrainerCallback):  # type: ignore[misc]
    """Writes the record of each state that was saved."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the checksums of the newest state's files."""
        if state.is_world_process_zero:
            folder = _folder(Path(args.output_dir), state.global_step)
            files = [file for file in folder.iterdir() if file.is_file() and file.name != _RECORD]
            shared = [file for file in files if _OF_PROCESS.fullmatch(file.name) is None]
            digests = file_digests(sorted(shared))
            write_kept(folder / _RECORD, {file.name: sum_ for file, sum_ in digests.items()})


class QuietProgress(ProgressCallback):  # type: ignore[misc]
    """Trainer's progress bar without a printed line per step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss next to the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


class Reported(TrainerCallback):  # type: ignore[misc]
    """Trainer's losses for the log of the run, if there is one."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Report what Trainer logs."""
        found = {k: v for k, v in (logs or {}).items() if k in _REPORTED}
        if state.is_world_process_zero:
            log_scalars(
                {_REPORTED[name]: value for name, value in found.items()}, state.global_step
            )


class StopIfDiverged(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose loss is no longer a number."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Raise an InputError if a loss is NaN or infinite."""
        for name in ("loss", "eval_loss"):
            loss = float((logs or {}).get(name, 0.0))
            if not math.isfinite(loss):
                what = "validation" if name == "eval_loss" else "training"
                raise InputError(
                    f"The {what} loss is {loss} at step {state.global_step}: the run diverged. "
                    f"Choose a smaller --learning-rate, and another folder."
                )


def newest_state(states: Path) -> TuningState | None:
    """Return the newest whole state, whose best weights are whole as well.

    What is damaged is named in a warning and removed, as are the states after the one that is
    returned: the run writes them again.

    Args:
        states: Trainer's folder.
    """
    steps = sorted(_steps(states), reverse=True)
    for step in steps:
        found = _read(_folder(states, step))
        best = None if found is None else found.state.best_global_step
        if found is not None and (best in (None, step) or _read(_folder(states, best))):
            return found
        shutil.rmtree(_folder(states, step), ignore_errors=True)
    if steps:
        logger.warning("No state in %s is whole; training starts at its first step.", states)
    return None


def copy_weights(state: Path, target: Path) -> None:
    """Copy a state's model and tokenizer, without what only Trainer reads.

    Args:
        state: Folder of the state.
        target: An existing folder.
    """
    for file in state.iterdir():
        if file.is_file() and _FOR_RESUMING.fullmatch(file.name) is None:
            shutil.copyfile(file, target / file.name)


def _steps(states: Path) -> Iterator[int]:
    for folder in states.glob("checkpoint-*"):
        if (step := folder.name.partition("-")[2]).isdecimal():
            yield int(step)


def _folder(states: Path, step: int) -> Path:
    return states / f"checkpoint-{step}"


def _read(folder: Path) -> TuningState | None:
    """Return a state, or ``None`` and a warning if a file of it is missing or damaged."""
    record = read_kept(folder / _RECORD)
    if record is None:
        logger.warning("%s was not written to its end; it is not resumed from.", folder)
        return None
    for name, checksum in record.items():
        try:
            whole = file_digests([folder / name])[folder / name] == checksum
        except TrustError:
            whole = False
        if not whole:
            logger.warning("%s is damaged; %s is not resumed from.", folder / name, folder.name)
            return None
    try:
        return TuningState(folder, TrainerState.load_from_json(str(folder / _STATE)))
    except TypeError as error:
        logger.warning("%s is of another release of transformers (%s).", folder / _STATE, error)
        return None

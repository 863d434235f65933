"""A worker: computes jobs one after the other, fetching the next checkpoint meanwhile."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lm_eval_trust.checkpoints.store import Budget, CheckpointStore, MissingCheckpointError
from lm_eval_trust.core.errors import InputError, TrustError
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.study.cells import Cell
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.models import StudyModel
from lm_eval_trust.study.runners import LoadedModel, compute
from lm_eval_trust.study.scheduler import Event, Failed, Finished, Job, JobDone, Skipped, Started

_OUTSIDE_FAILED = 3


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker works.

    Attributes:
        folder: Folder of the study.
        scratch: Where its own checkpoints are downloaded to.
        budget: What they may take.
        dtype: In which models run.
        device: A torch device, or ``auto``.
        batch_size: Batch size of evaluations.
        threads: torch's threads.
    """

    folder: Path
    scratch: Path
    budget: Budget
    dtype: str
    device: str
    batch_size: int
    threads: int


class Worker:
    """Computes cells straight into the study's folder.

    Args:
        settings: How.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        import torch

        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._folder = StudyFolder(settings.folder)
        self._exit = ExitStack()
        self._store = self._exit.enter_context(CheckpointStore(settings.scratch, settings.budget))
        #: The last model that is no checkpoint of the family, kept for the next job.
        self._kept: tuple[StudyModel, LoadedModel] | None = None

    def close(self) -> None:
        """Let go of models and downloads."""
        self._kept = None
        self._exit.close()

    def run(self, job: Job, upcoming: Job | None) -> Iterator[Event]:
        """Compute a job's cells; yield what happens, :class:`JobDone` last.

        Args:
            job: What is computed; finished cells are left as they are.
            upcoming: What this worker will be given next, whose checkpoint is fetched meanwhile.
        """
        downloaded, started = self._store.download_seconds, time.monotonic()
        waited = 0.0
        with ExitStack() as held:
            todo = [cell for cell in job.cells if self._folder.record(cell) is None]
            loaded: LoadedModel | None = None
            if not any(cell.needs_model for cell in todo):
                self._prefetch(upcoming)
            for cell in job.cells:
                if cell not in todo:
                    yield Finished(cell.name, 0.0)
                    continue
                yield Started(cell.name)
                if cell.needs_model and loaded is None:
                    before = time.monotonic()
                    try:
                        loaded = self._load(job.model, held)
                    except MissingCheckpointError as error:
                        yield Skipped(job.model.name, str(error))
                        break
                    except TrustError as error:
                        yield from self._give_up(todo[todo.index(cell) :], error)
                        break
                    waited = time.monotonic() - before
                    self._prefetch(upcoming)
                yield self._compute(cell, loaded)
        spent = time.monotonic() - started - waited
        yield JobDone(self._store.download_seconds - downloaded, spent)

    def _load(self, model: StudyModel, held: ExitStack) -> LoadedModel:
        """Return the model, fetched if need be; it is held until the job is over."""
        if self._kept is not None and self._kept[0] == model:
            return self._kept[1]
        self._kept = None
        if model.streamed:
            source = held.enter_context(self._store.local(model.checkpoint()))
        else:
            source = find_source(model.spec)
        if source.identity.commit and source.identity.text != model.identity:
            raise InputError(
                f"{model.spec} was {model.identity} when the study began, and is "
                f"{source.identity.text} now; run the study again."
            )
        settings = self._settings
        loaded = LoadedModel(
            source,
            dtype=settings.dtype,
            device=settings.device,
            batch_size=settings.batch_size,
        )
        if model.streamed:
            held.callback(loaded.close)
        else:
            self._kept = (model, loaded)
        return loaded

    def _prefetch(self, upcoming: Job | None) -> None:
        if upcoming is not None and upcoming.needs_model and upcoming.model.streamed:
            self._store.prefetch(upcoming.model.checkpoint())

    def _compute(self, cell: Cell, loaded: LoadedModel | None) -> Event:
        try:
            seconds = self._folder.publish(
                cell, lambda out: compute(cell, out, self._folder, loaded)
            )
        except TrustError as error:
            return self._failed(cell, str(error), error.exit_code)
        except Exception as error:
            traceback.print_exc()
            return self._failed(cell, f"{type(error).__name__}: {error}", _OUTSIDE_FAILED)
        return Finished(cell.name, seconds)

    def _give_up(self, cells: list[Cell], error: TrustError) -> Iterator[Event]:
        """Fail all cells that the model was needed for; the others are tried."""
        for cell in cells:
            if cell.needs_model:
                yield self._failed(cell, str(error), error.exit_code)
            else:
                yield self._compute(cell, None)

    def _failed(self, cell: Cell, message: str, exit_code: int) -> Failed:
        self._folder.fail(cell, message, exit_code)
        return Failed(cell.name, message, exit_code)

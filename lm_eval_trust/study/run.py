"""Run a study: stage by stage, until every cell is there, failed or skipped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lm_eval_trust.checkpoints.store import Budget
from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.core.progress import ProgressBar, progress_bar
from lm_eval_trust.core.run_log import log_scalars
from lm_eval_trust.study.cells import Cell
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.scheduler import (
    Event,
    Failed,
    Finished,
    JobDone,
    Pool,
    Scheduler,
    Skipped,
    plan_jobs,
    stages,
)
from lm_eval_trust.study.spec import EngineSpec, StudySpec
from lm_eval_trust.study.worker import WorkerSettings


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        computed: Cells computed now.
        found: Cells that were there.
        failed: Cell → why, of this run.
        exit_codes: Exit codes of the failures.
        skipped: Model → why.
        download_seconds: Seconds that all workers downloaded.
        compute_seconds: Seconds that all workers computed.
        wall_seconds: Wall-clock seconds of the run.
    """

    computed: int = 0
    found: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    download_seconds: float = 0.0
    compute_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, 2 where all that failed is wrong input, or 3."""
        return max(self.exit_codes, default=0)


def run_study(study: Study, folder: StudyFolder) -> Outcome:
    """Compute all cells of a study that are not there yet.

    A cell that fails is recorded, the rest continues, and the next run tries it again.

    Raises:
        InputError: Another run is at work in the folder, or it is another study's; an unknown
            engine, or one that is not installed or does not fit.
        ExternalError: The disk refused to write, or a cluster cannot be reached.
    """
    check_engine(study.spec.engine)
    started = time.monotonic()
    with folder.lock():
        folder.bind(study.spec.study)
        study.remember()
        (folder.path / "logs").mkdir(exist_ok=True)
        outcome = _compute(study, folder)
        folder.skip(outcome.skipped)
        outcome.wall_seconds = time.monotonic() - started
        folder.log_run(
            {
                "ended": time.time(),
                "engine": study.spec.engine.name,
                "computed": outcome.computed,
                "failed": len(outcome.failed),
                "skipped": len(outcome.skipped),
                "wall_seconds": outcome.wall_seconds,
                "download_seconds": outcome.download_seconds,
                "compute_seconds": outcome.compute_seconds,
            }
        )
    return outcome


def _compute(study: Study, folder: StudyFolder) -> Outcome:
    cells = study.grid().cells
    folder.recover({cell.name: cell for cell in cells})
    unfinished = _unfinished(cells, folder)
    outcome = Outcome(found=len(cells) - len(unfinished))
    if not unfinished:
        return outcome
    pool = open_pool(study.spec, folder)
    try:
        with progress_bar(total=len(cells), done=outcome.found, title="Cells", unit="cell") as bar:
            scheduler = Scheduler(pool, _Reporter(folder, outcome, bar))
            for number in (0, 1):
                # What was skipped in the first stage changes what the second one needs.
                left = study.grid(outcome.skipped).cells
                todo = _unfinished(stages(left)[number], folder, but=outcome.failed)
                scheduler.run(plan_jobs(todo, pool.size))
    finally:
        pool.close()
    return outcome


def _unfinished(cells: Sequence[Cell], folder: StudyFolder, but: object = ()) -> list[Cell]:
    assert hasattr(but, "__contains__")
    return [c for c in cells if c.name not in but and folder.record(c) is None]


@dataclass
class _Reporter:
    folder: StudyFolder
    outcome: Outcome
    bar: ProgressBar

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.outcome.computed += 1
            self.bar.update()
            done = self.outcome.found + self.outcome.computed
            log_scalars({"study/finished": done, "study/failed": len(self.outcome.failed)}, done)
        elif isinstance(event, Failed):
            self.outcome.failed[event.cell] = event.message
            self.outcome.exit_codes.append(event.exit_code)
            self.bar.set_postfix(failed=len(self.outcome.failed))
        elif isinstance(event, Skipped):
            self.outcome.skipped[event.model] = event.reason
        elif isinstance(event, JobDone):
            self.outcome.download_seconds += event.download_seconds
            self.outcome.compute_seconds += event.compute_seconds


def worker_settings(spec: StudySpec, folder: StudyFolder, sharing: int) -> WorkerSettings:
    """Return the settings of one of so many workers on a machine."""
    engine, budget = spec.engine, spec.budget
    share = Budget(
        bytes=None if budget.disk is None else budget.disk // sharing,
        checkpoints=None if budget.checkpoints is None else max(1, budget.checkpoints // sharing),
    )
    cores = os.cpu_count() or 1
    return WorkerSettings(
        folder=folder.path.resolve(),
        scratch=Path(engine.scratch or folder.path / "checkpoints").expanduser().resolve(),
        budget=share,
        dtype=spec.dtype,
        device=engine.device,
        batch_size=engine.batch_size,
        threads=engine.threads or max(1, cores // sharing),
    )


def _inline(spec: StudySpec, folder: StudyFolder) -> Pool:
    from lm_eval_trust.study.local_engine import InlinePool

    settings = worker_settings(spec, folder, 1)
    return InlinePool(replace(settings, scratch=settings.scratch / "worker-0"))


def _local(spec: StudySpec, folder: StudyFolder) -> Pool:
    from lm_eval_trust.study.local_engine import LocalPool, find_gpus

    gpus = find_gpus(spec.engine.device)
    workers = spec.engine.workers or max(1, len(gpus))
    return LocalPool(worker_settings(spec, folder, workers), workers, gpus)


def _ray(spec: StudySpec, folder: StudyFolder) -> Pool:
    from lm_eval_trust.study.ray_engine import open_ray_pool

    return open_ray_pool(spec, folder)


#: Name → how its workers are started.
ENGINES: dict[str, Callable[[StudySpec, StudyFolder], Pool]] = {
    "local": _local,
    "ray": _ray,
    "inline": _inline,
}


def check_engine(engine: EngineSpec) -> None:
    """Raise unless there is such an engine.

    Raises:
        InputError: There is none of that name.
    """
    if engine.name not in ENGINES:
        raise unknown_name("engine", engine.name, ENGINES)


def open_pool(spec: StudySpec, folder: StudyFolder) -> Pool:
    """Start the workers of the engine that a study names."""
    return ENGINES[spec.engine.name](spec, folder)

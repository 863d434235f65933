"""Hands jobs to workers, whatever engine they run on, and puts back what a lost worker had."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from lm_eval_trust.study.cells import Cell, EvaluationCell
from lm_eval_trust.study.models import StudyModel


@dataclass(frozen=True)
class Started:
    """A cell is being computed."""

    cell: str


@dataclass(frozen=True)
class Finished:
    """A cell is there, computed in so many seconds."""

    cell: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A cell could not be computed; ``exit_code`` is 2 for wrong input, 3 for anything else."""

    cell: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class Skipped:
    """A model cannot be fetched, so none of its cells can be computed."""

    model: str
    reason: str


@dataclass(frozen=True)
class JobDone:
    """A job is over.

    Attributes:
        download_seconds: Spent downloading for it, in the background or not.
        compute_seconds: From the model's being there to the end.
    """

    download_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True)
class Lost:
    """The worker itself is gone, with what it was doing."""

    reason: str


Event = Started | Finished | Failed | Skipped | JobDone | Lost


@dataclass(frozen=True)
class Job:
    """Some cells of one model.

    Attributes:
        model: Which model.
        cells: What is computed, in this order.
    """

    model: StudyModel
    cells: tuple[Cell, ...]

    @property
    def needs_model(self) -> bool:
        """Whether the model has to be loaded for any cell."""
        return any(cell.needs_model for cell in self.cells)

    def without(self, done: Iterable[str]) -> Job:
        """Return the job without the cells of these names."""
        gone = set(done)
        return replace(self, cells=tuple(cell for cell in self.cells if cell.name not in gone))


def stages(cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Divide cells into those that can be computed at once, and those that need others' results."""
    return (
        [cell for cell in cells if not cell.needs_others],
        [cell for cell in cells if cell.needs_others],
    )


def plan_jobs(cells: Sequence[Cell], workers: int) -> list[Job]:
    """Group cells into jobs.

    A checkpoint of the family is one job, so it is fetched once. Evaluations of another model
    are dealt to so many jobs that all workers have a share.

    Args:
        cells: Unfinished cells of one stage.
        workers: That are going to work.
    """
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in cells:
        divisible = isinstance(cell, EvaluationCell) and not cell.model.streamed
        groups.setdefault((cell.model.spec, divisible), []).append(cell)
    jobs: list[Job] = []
    for (_, divisible), members in groups.items():
        ordered = sorted(members, key=_loaded_as)
        parts = min(workers, len(ordered)) if divisible else 1
        jobs += [Job(members[0].model, tuple(part)) for part in _shares(ordered, parts)]
    return jobs


def _loaded_as(cell: Cell) -> tuple[int, str]:
    """Cells that load the model in one way stand together; what others derive from comes first."""
    if not isinstance(cell, EvaluationCell):
        return 0, ""
    if cell.adapter is not None:
        return 2, cell.adapter.identity
    if cell.proxy is not None:
        return 3, str(cell.proxy)
    return 1, ""


def _shares(cells: Sequence[Cell], parts: int) -> list[Sequence[Cell]]:
    bounds = [round(i * len(cells) / parts) for i in range(parts + 1)]
    return [cells[a:b] for a, b in pairwise(bounds) if b > a]


#: Workers that a cell may take down before it is given up.
ATTEMPTS = 3
_OUTSIDE_FAILED = 3


class Pool(Protocol):
    """Workers of an engine, numbered from 0."""

    @property
    def size(self) -> int:
        """Number of workers; a lost one is replaced."""

    @property
    def ready(self) -> Collection[int]:
        """Workers that are there; a replacement may have to wait for room."""

    def submit(self, worker: int, job: Job, upcoming: Job | None) -> None:
        """Give a job to an idle worker, and tell it what comes next."""

    def wait(self) -> Iterable[tuple[int, Event]]:
        """Wait until something happens; return the events, none where a worker became ready."""

    def close(self) -> None:
        """Let the workers go."""


class Scheduler:
    """Runs jobs to the end.

    Each worker is given a job and told the one that it will be given next, so it can fetch
    its checkpoint. The cell that was being computed when a worker was lost is tried
    :data:`ATTEMPTS` times; its job's other cells continue.

    Args:
        pool: The workers.
        report: Called with every event but those of the scheduling itself.
    """

    def __init__(self, pool: Pool, report: Callable[[Event], None]) -> None:
        self._pool, self._report = pool, report
        self._queue: deque[Job] = deque()
        self._current: dict[int, Job] = {}
        self._next: dict[int, Job] = {}
        self._computed: dict[int, str] = {}
        self._done: dict[int, set[str]] = {}
        self._losses: Counter[str] = Counter()

    def run(self, jobs: Sequence[Job]) -> None:
        """Return when every job is over."""
        self._queue.extend(jobs)
        self._hand_out()
        while self._current or self._queue:
            for worker, event in self._pool.wait():
                self._take(worker, event)
            self._hand_out()

    def _hand_out(self) -> None:
        idle = [w for w in sorted(self._pool.ready) if w not in self._current]
        # Jobs before look-ahead: no worker reserves what another one could begin.
        begun = []
        for worker in idle:
            job = self._next.pop(worker, None) or self._pop()
            if job is not None:
                self._current[worker], self._done[worker] = job, set()
                begun.append(worker)
        for worker in begun:
            upcoming = self._pop()
            if upcoming is not None:
                self._next[worker] = upcoming
            self._pool.submit(worker, self._current[worker], upcoming)

    def _pop(self) -> Job | None:
        return self._queue.popleft() if self._queue else None

    def _take(self, worker: int, event: Event) -> None:
        if isinstance(event, Started):
            self._computed[worker] = event.cell
            return
        if isinstance(event, (Finished, Failed)):
            self._computed.pop(worker, None)
            self._done[worker].add(event.cell)
        if isinstance(event, (JobDone, Skipped)):
            self._computed.pop(worker, None)
        if isinstance(event, JobDone):
            del self._current[worker]
        if isinstance(event, Lost):
            self._put_back(worker, event)
            return
        self._report(event)

    def _put_back(self, worker: int, lost: Lost) -> None:
        """Queue what a lost worker had, without what is done and what took it down too often."""
        waiting = self._next.pop(worker, None)
        if waiting is not None:
            self._queue.appendleft(waiting)
        job = self._current.pop(worker, None)
        if job is None:
            return
        left = job.without(self._done[worker])
        blamed = self._computed.pop(worker, None) or left.cells[0].name if left.cells else None
        if blamed is not None:
            self._losses[blamed] += 1
            if self._losses[blamed] >= ATTEMPTS:
                message = f"{ATTEMPTS} workers were lost while computing it: {lost.reason}"
                self._report(Failed(blamed, message, _OUTSIDE_FAILED))
                left = left.without([blamed])
        if left.cells:
            self._queue.appendleft(left)

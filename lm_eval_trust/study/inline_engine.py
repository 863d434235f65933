"""Engine ``inline``: one worker in this very process, for looking for errors."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout

from lm_eval_trust.study.events import Event
from lm_eval_trust.study.jobs import Job
from lm_eval_trust.study.worker import Worker, WorkerSettings


class InlinePool:
    """A single worker whose events come one at a time.

    Args:
        settings: Of the worker.
    """

    size = 1
    ready = (0,)

    def __init__(self, settings: WorkerSettings) -> None:
        self._worker = Worker(settings)
        self._log = (settings.folder / "logs" / "worker-0.log").open("a", encoding="utf-8")
        self._events: Iterable[Event] = ()

    def submit(self, worker: int, job: Job, upcoming: Job | None) -> None:
        """Give the worker a job."""
        self._events = iter(self._worker.run(job, upcoming))

    def wait(self) -> Iterable[tuple[int, Event]]:
        """Work until the next event."""
        with redirect_stderr(self._log), redirect_stdout(self._log):
            event = next(iter(self._events))
        return [(0, event)]

    def close(self) -> None:
        """Let the worker go."""
        self._worker.close()
        self._log.close()

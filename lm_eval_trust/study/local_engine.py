"""Engine ``local``: worker processes on this machine, one per GPU if there are several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from lm_eval_trust.study.scheduler import Event, Job, Lost
from lm_eval_trust.study.worker import Worker, WorkerSettings

#: Seconds between a worker's looks whether its parent is alive.
_LOOK_EVERY = 0.2
_CLOSING_SECONDS = 10.0


@dataclass
class _Process:
    process: BaseProcess
    connection: Connection


class LocalPool:
    """Worker processes; each ends by itself when this process is gone.

    Args:
        settings: Settings of all workers; each has a sub-folder of the scratch folder.
        workers: Number of workers.
        gpus: Numbers of the GPUs to deal out; empty for what each worker finds.
    """

    def __init__(self, settings: WorkerSettings, workers: int, gpus: Sequence[int] = ()) -> None:
        self.size = workers
        self.ready = range(workers)
        self._settings, self._gpus = settings, gpus
        # A forked child of a process with threads may hang; a spawned one has a clean start.
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start(number) for number in range(workers)]

    def submit(self, worker: int, job: Job, upcoming: Job | None) -> None:
        """Give a worker a job; of one that has just died, :meth:`wait` tells."""
        try:
            self._workers[worker].connection.send((job, upcoming))
        except (BrokenPipeError, ConnectionResetError):
            return

    def wait(self) -> Iterable[tuple[int, Event]]:
        """Wait for events, and replace workers that died."""
        numbers = {w.connection: n for n, w in enumerate(self._workers)}
        sentinels = {w.process.sentinel: n for n, w in enumerate(self._workers)}
        ready = wait([*numbers, *sentinels])
        events: list[tuple[int, Event]] = []
        for thing in ready:
            number = numbers.get(cast(Any, thing))
            if number is not None:
                events += [(number, event) for event in self._received(number)]
        for thing in ready:
            number = sentinels.get(cast(Any, thing))
            if number is not None:
                events.append((number, Lost(self._replace_dead(number))))
        return events

    def _received(self, number: int) -> Iterable[Event]:
        connection = self._workers[number].connection
        try:
            while connection.poll():
                yield connection.recv()
        except (EOFError, OSError):
            # The process is ending; its sentinel tells.
            return

    def _replace_dead(self, number: int) -> str:
        """Replace a dead worker; return how it died."""
        dead = self._workers[number]
        dead.process.join()
        dead.connection.close()
        code = dead.process.exitcode
        self._workers[number] = self._start(number)
        if code is not None and code < 0:
            killed = signal.Signals(-code).name
            return f"killed by {killed}" + (" (out of memory?)" if killed == "SIGKILL" else "")
        return f"ended with exit code {code}; see logs/worker-{number}.log"

    def _start(self, number: int) -> _Process:
        ours, theirs = self._context.Pipe()
        settings = replace(self._settings, scratch=self._settings.scratch / f"worker-{number}")
        gpu = str(self._gpus[number % len(self._gpus)]) if self._gpus else None
        process = self._context.Process(
            target=_serve, args=(theirs, settings, number, gpu, os.getpid())
        )
        process.start()
        theirs.close()
        return _Process(process, ours)

    def close(self) -> None:
        """Ask the workers to stop, and stop those that do not."""
        for worker in self._workers:
            try:
                worker.connection.send(None)
            except OSError:
                continue
        until = time.monotonic() + _CLOSING_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _serve(
    connection: Connection, settings: WorkerSettings, number: int, gpu: str | None, parent: int
) -> None:
    """Run in the worker's process: compute what is sent until nothing more comes."""
    _exit_with_parent(parent)
    # Ctrl-C reaches the whole group; the driver decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _log_to(settings, number)
    worker = Worker(settings)
    try:
        while (message := connection.recv()) is not None:
            for event in worker.run(*message):
                connection.send(event)
    except EOFError:
        pass
    finally:
        worker.close()


def _exit_with_parent(parent: int) -> None:
    """End this process, whatever it is doing, when its parent is gone."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _log_to(settings: WorkerSettings, number: int) -> None:
    """Send all output, of libraries and of C code as well, to the worker's log."""
    log = (settings.folder / "logs" / f"worker-{number}.log").open("ab", buffering=0)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())


def find_gpus(device: str) -> list[int]:
    """Return the numbers of the GPUs to deal out to workers; none where a device is named."""
    import torch

    return list(range(torch.cuda.device_count())) if device in ("auto", "cuda") else []


class InlinePool:
    """A single worker whose events come one at a time.

    Args:
        settings: Settings of the worker.
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

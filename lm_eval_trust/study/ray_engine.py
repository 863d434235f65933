"""Engine ``ray``: workers as actors on the nodes of a Ray cluster, or of one made for the run."""

from __future__ import annotations

import importlib
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.run import worker_settings
from lm_eval_trust.study.scheduler import Event, Job, JobDone, Lost
from lm_eval_trust.study.spec import EngineSpec, StudySpec
from lm_eval_trust.study.worker import Worker, WorkerSettings

_NOT_INSTALLED = (
    "The engine ray needs Ray, which is not installed: run `pip install 'lm-eval-trust[ray]'`, "
    "or use --engine local."
)
#: Beginnings of the environment variables that workers are given; tokens are left to the nodes.
_PASSED_ON = ("LM_EVAL_TRUST_", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME")
#: A worker that has room still has to import torch, on a busy machine for minutes.
_NODE_SECONDS = 600.0
_CONNECTION_SECONDS = 10.0


class _Actor:
    """A worker inside an actor of Ray."""

    def start(self, settings: WorkerSettings, token: str, number: int) -> str:
        """Begin to work; return the node's name, or raise if it does not see the study."""
        import platform

        if not (settings.folder / token).is_file():
            raise InputError(
                f"{settings.folder} is not the study's folder on the node {platform.node()}; put "
                f"--out on a file system that all nodes share, under the same path."
            )
        scratch = settings.scratch / f"worker-{number}"
        self._worker = Worker(replace(settings, scratch=scratch))
        return platform.node()

    def run(self, job: Job, upcoming: Job | None) -> Iterator[Event]:
        """Compute a job; its events stream to the driver."""
        yield from self._worker.run(job, upcoming)

    def close(self) -> None:
        """Let go of downloads."""
        self._worker.close()


class RayPool:
    """Actors that are created again when they or their nodes are lost.

    Args:
        ray: The module of Ray, connected to a cluster.
        settings: Settings of all workers.
        engine: Number of workers, and what each of them takes of a node.
    """

    def __init__(self, ray: Any, settings: WorkerSettings, engine: EngineSpec) -> None:
        self.size = engine.workers or 1
        self._ray, self._settings = ray, settings
        self._token = settings.folder / f".ray-{uuid.uuid4().hex[:12]}"
        self._token.touch()
        gpus = engine.gpus if engine.gpus is not None else _a_gpu_where_there_are(ray)
        self._actor = ray.remote(num_cpus=engine.cpus, num_gpus=gpus, max_restarts=0)(_Actor)
        self._actors: dict[int, Any] = {}
        #: What tells that an actor works, by worker: it has to wait for room on a node.
        self._pending: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        try:
            for number in range(self.size):
                self._start(number)
            self.wait()
        except BaseException:
            self.close()
            raise

    @property
    def ready(self) -> list[int]:
        """Workers on a node that sees the study."""
        return [number for number in self._actors if number not in self._pending]

    def submit(self, worker: int, job: Job, upcoming: Job | None) -> None:
        """Give a worker a job."""
        remote = self._actors[worker].run.options(num_returns="streaming")
        self._streams[worker] = remote.remote(job, upcoming)

    def wait(self) -> Iterable[tuple[int, Event]]:
        """Wait for an event, or for a worker to be ready; replace a worker that was lost.

        Raises:
            InputError: A node does not see the study's folder.
            ExternalError: No worker is left, and there is no room for another one.
        """
        streams = {stream: number for number, stream in self._streams.items()}
        beginnings = {ref: number for number, ref in self._pending.items()}
        patience = None if streams or self.ready else _NODE_SECONDS
        ready, _ = self._ray.wait([*streams, *beginnings], num_returns=1, timeout=patience)
        if not ready:
            raise ExternalError(
                f"No worker could be started on the Ray cluster within {_NODE_SECONDS:.0f} s; is "
                f"it busy with other work?"
            )
        for found in ready:
            if found in beginnings:
                self._on_ready(beginnings[found])
        return [(streams[f], self._next(streams[f], f)) for f in ready if f in streams]

    def _next(self, number: int, stream: Any) -> Event:
        try:
            event: Event = self._ray.get(next(stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del self._streams[number]
            self._ray.kill(self._actors.pop(number))
            self._start(number)
            return Lost(" ".join(str(error).split())[:300] or type(error).__name__)
        if isinstance(event, JobDone):
            del self._streams[number]
        return event

    def _start(self, number: int) -> None:
        """Ask for an actor, which Ray makes when and if there is room."""
        actor = self._actors[number] = self._actor.remote()
        self._pending[number] = actor.start.remote(self._settings, self._token.name, number)

    def _on_ready(self, number: int) -> None:
        errors = self._ray.exceptions
        try:
            self._ray.get(self._pending.pop(number))
        except errors.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise ExternalError(f"A Ray worker cannot start: {error.cause}") from error
        except errors.RayError:
            # Its node was lost meanwhile.
            self._start(number)

    def close(self) -> None:
        """Let the workers go, and Ray."""
        errors = self._ray.exceptions
        for number in self.ready:
            try:
                self._ray.get(self._actors[number].close.remote(), timeout=10)
            except (errors.RayError, errors.GetTimeoutError):
                continue
        self._token.unlink(missing_ok=True)
        self._ray.shutdown()


def open_ray_pool(spec: StudySpec, folder: StudyFolder) -> RayPool:
    """Connect to a cluster, or make one of this machine, and start the workers.

    Raises:
        InputError: Ray is not installed, or a node does not see the study's folder.
        ExternalError: The cluster cannot be reached, or has no room.
    """
    ray = _module()
    engine = spec.engine
    passed = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    # Without an address Ray would take over a cluster that happens to run here.
    address = engine.address or "local"
    _check_reachable(address)
    own = {} if engine.address else {"num_cpus": _cpus_for(engine), "include_dashboard": False}
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": passed},
            log_to_driver=False,
            logging_level="ERROR",
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ExternalError(f"No Ray cluster at {address}: {reason_of(error)}") from error
    workers, most = engine.workers or 1, most_on_a_node(ray.nodes(), engine)
    if not most:
        ray.shutdown()
        raise ExternalError(
            f"No node of the Ray cluster at {address} has {engine.cpus:g} CPUs and "
            f"{engine.gpus or 0:g} GPUs for a worker; lower engine.cpus or engine.gpus."
        )
    return RayPool(ray, worker_settings(spec, folder, min(workers, most)), engine)


def _check_reachable(address: str) -> None:
    """Raise where nobody listens: Ray itself continues trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTION_SECONDS).close()
    except OSError as error:
        raise ExternalError(
            f"No Ray cluster at {address}: {error.strerror or error}. Start one with "
            f"`ray start --head`, or leave the address out for one on this machine."
        ) from error


def _module() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(_NOT_INSTALLED) from error


def _cpus_for(engine: EngineSpec) -> int:
    """Return CPUs that a cluster of one machine declares: at least what its workers ask for."""
    asked = (engine.workers or 1) * engine.cpus
    return max(os.cpu_count() or 1, int(-(-asked // 1)))


def most_on_a_node(nodes: Iterable[Mapping[str, Any]], engine: EngineSpec) -> int:
    """Return how many workers may meet on a node, now or after a loss: they share its disk."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    asked = {"CPU": engine.cpus, "GPU": engine.gpus or 0}
    rooms = [
        min(int(found.get(kind, 0) // each) for kind, each in asked.items() if each)
        for found in alive
    ]
    return max(rooms, default=0)


def _a_gpu_where_there_are(ray: Any) -> float:
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0

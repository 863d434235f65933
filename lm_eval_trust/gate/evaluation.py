"""Models evaluated by the harness, each task kept as soon as it is done and found again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust import __version__
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.storage import read_kept, write_kept
from lm_eval_trust.evaluate.harness import needs_defaults, quick_calls, save_results, task_manager
from lm_eval_trust.gate.measurement import Measurement, group_of, measurement_of

if TYPE_CHECKING:
    from lm_eval_trust.gate.models import Subject

#: Libraries whose releases may change what a model answers.
_LIBRARIES = ("lm_eval", "torch", "transformers", "peft")
#: Where a function of a task's settings lies in this process's memory.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class LoadedTask:
    """A task, with what it was before any evaluation, which changes it.

    Attributes:
        name: Its name.
        task: The harness's task.
        limit: How many items are evaluated at most.
        manager: The index that it came from.
        identity: What scores depend on: settings, judge, items.
    """

    name: str
    task: Any
    limit: int | None
    manager: Any
    identity: str

    @property
    def size(self) -> int:
        """How many items are evaluated."""
        return _size(self.task, self.limit)

    @property
    def aggregations(self) -> dict[str, str]:
        """Metric → name of its aggregation; empty where that has none, as a partial function."""
        functions = self.task.aggregation()
        return {m: getattr(f, "__name__", "") for m, f in functions.items()}

    @property
    def groups(self) -> list[str]:
        """Group of each item that is evaluated."""
        docs = self.task.eval_docs
        return [group_of(docs[i]) or f"item {i}" for i in range(self.size)]


@dataclass
class Tasks:
    """The tasks of a check, loaded when they are first asked for.

    Attributes:
        metadata: What tasks are told.
    """

    metadata: Mapping[str, Any]
    _managers: dict[bool, Any] = field(default_factory=dict)

    def members(self, name: str, limit: int | None) -> list[LoadedTask]:
        """Return the tasks that a task, group or tag stands for.

        Raises:
            InputError: A setting of the tasks, or their data, is wrong or missing.
            ExternalError: A judge or data cannot be fetched.
        """
        foreign = needs_defaults(name)
        if foreign not in self._managers:
            self._managers[foreign] = task_manager(self.metadata, with_defaults=foreign)
        manager = self._managers[foreign]
        return [
            LoadedTask(task_name, task, limit, manager, _identity(task, limit))
            for task_name, task in manager.load([name])["tasks"].items()
        ]


class Evaluator:
    """Evaluates subjects task by task.

    Args:
        folder: Where measurements, and the harness's results and samples, are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: tuple[str, Any] | None = None

    def measure(self, subject: Subject, task: LoadedTask) -> Measurement:
        """Return what a subject scores, evaluated now unless it was before.

        Raises:
            InputError: As the model or the task raises; as the leak guard.
            ExternalError: Something cannot be fetched, or the disk refused to write.
        """
        kept = self.kept(subject, task)
        if kept is not None:
            return kept
        found = self._evaluate(subject, task)
        write_kept(self._file(subject, task), asdict(found))
        return found

    def kept(self, subject: Subject, task: LoadedTask) -> Measurement | None:
        """Return a kept measurement; ``None`` if there is none, or if it was changed or damaged."""
        found = read_kept(self._file(subject, task))
        return None if found is None else Measurement(**found)

    def _file(self, subject: Subject, task: LoadedTask) -> Path:
        return self._folder / "measurements" / f"{task.name}-{self._key(subject, task)}.json"

    def _key(self, subject: Subject, task: LoadedTask) -> str:
        software = {name: version(name) for name in _LIBRARIES} | {"own": __version__}
        return fingerprint(
            {"subject": subject.identity, "task": task.identity, "software": software}
        )

    def _evaluate(self, subject: Subject, task: LoadedTask) -> Measurement:
        import lm_eval
        from lm_eval.loggers import EvaluationTracker

        model = self._model(subject)
        results = self._folder / "results" / self._key(subject, task)
        tracker = EvaluationTracker(output_path=str(results))
        with quick_calls():
            found = lm_eval.simple_evaluate(
                model=model,
                tasks=[task.task],
                limit=task.limit,
                task_manager=task.manager,
                evaluation_tracker=tracker,
                bootstrap_iters=0,
            )
            measured = measurement_of(task.name, found, task.aggregations)
            save_results(tracker, found)
        return measured

    def _model(self, subject: Subject) -> Any:
        """Return the loaded model, steered; one model is loaded at a time."""
        if self._loaded is None or self._loaded[0] != subject.loading_key:
            self._loaded = None
            self._loaded = (subject.loading_key, subject.load())
        self._loaded[1].steer_by(subject.plan)
        return self._loaded[1]


def _identity(task: Any, limit: int | None) -> str:
    """Return the identity of a task's settings and of the items that are evaluated."""
    docs = task.eval_docs
    config = task.dump_config()
    # The place of its file changes nothing.
    metadata = {k: v for k, v in config.get("metadata", {}).items() if k != "config_source"}
    return content_id(
        _ADDRESS.sub("", str({**config, "metadata": metadata})),
        str(task.VERSION),
        *(repr(docs[i]) for i in range(_size(task, limit))),
    )


def _size(task: Any, limit: int | None) -> int:
    number = len(task.eval_docs)
    return number if limit is None else min(number, limit)

"""The harness called from our own code, many times in one process."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from lm_eval_trust.core.errors import unknown_name

_OUR_PREFIX = "trust_"
#: Our groups whose members are the harness's own tasks.
_OF_HARNESS = frozenset(("trust_general",))


def task_manager(metadata: Mapping[str, Any] | None = None, *, with_defaults: bool = False) -> Any:
    """Return the harness's index of tasks, which remembers the tasks that it has loaded.

    Args:
        metadata: What tasks are told, as by ``--metadata``.
        with_defaults: Whether the harness's own 14,000 are to be known; indexing takes seconds.
    """
    from lm_eval.tasks import TaskManager

    from lm_eval_trust.plugin import register_models, task_paths

    class LoadedOnce(TaskManager):  # type: ignore[misc]
        """A task manager that hands out the same tasks when asked again."""

        def load(self, spec: Any) -> Any:
            key = str(spec)
            if key not in loaded:
                loaded[key] = super().load(spec)
            return loaded[key]

    loaded: dict[str, Any] = {}
    register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return LoadedOnce(
        include_path=[str(path) for path in task_paths()],
        include_defaults=with_defaults,
        metadata=dict(metadata or {}),
    )


@functools.cache
def own_tasks() -> frozenset[str]:
    """Return the names of our tasks, groups and tags."""
    return frozenset(task_manager().all_tasks)


def needs_defaults(name: str) -> bool:
    """Tell whether a task, group or tag is the harness's own, or a group of such."""
    return name in _OF_HARNESS or name not in own_tasks()


def check_tasks(names: Iterable[str]) -> None:
    """Raise unless the harness knows all of these tasks, groups or tags.

    Raises:
        InputError: One is unknown; the nearest names are told.
    """
    for name in names:
        if name not in own_tasks() and name.startswith(_OUR_PREFIX):
            raise unknown_name("task", name, own_tasks())
        if name not in own_tasks():
            known = task_manager(with_defaults=True).all_tasks
            if name not in known:
                raise unknown_name("task", name, known)


def save_results(tracker: Any, found: dict[str, Any]) -> None:
    """Write what ``simple_evaluate`` returned as the harness's command does.

    Read the samples before: they are taken out of ``found``, and their arguments are rewritten.

    Args:
        tracker: The harness's ``EvaluationTracker``.
        found: Results with samples.
    """
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in found["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])

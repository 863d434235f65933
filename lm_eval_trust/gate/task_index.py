"""What is known of tasks before any is loaded: that they exist, and which metrics they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.plugin import task_paths

_OUR_PREFIX = "trust_"


class Catalogue:
    """The harness's index of tasks as their files have it; no data and no model is read."""

    def __init__(self) -> None:
        self._ours = _index(with_defaults=False)
        self._all: dict[str, Any] | None = None

    def check(self, name: str, metric: str) -> None:
        """Raise unless there is such a task with such a metric, as far as its file tells.

        Args:
            name: A task, group or tag.
            metric: Metric of its tasks, with or without a filter.

        Raises:
            InputError: One is unknown; the nearest names are told.
        """
        for task, config in self._members(name):
            known = _metrics(config)
            plain = metric.partition(",")[0]
            if known and plain not in known and not plain.startswith(_broken_down(config)):
                raise unknown_name(f"metric of {task}", plain, known)

    def _members(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        entry = self._entry(name)
        kind = entry.kind.name
        if kind == "TAG":
            for member in sorted(entry.tags):
                yield from self._members(member)
        elif kind == "GROUP":
            for member in entry.cfg.get("task") or ():
                if isinstance(member, str):
                    yield from self._members(member)
        else:
            yield name, entry.cfg or {}

    def _entry(self, name: str) -> Any:
        if name in self._ours:
            return self._ours[name]
        if name.startswith(_OUR_PREFIX):
            raise unknown_name("task", name, self._ours)
        if self._all is None:
            self._all = _index(with_defaults=True)
        if name not in self._all:
            raise unknown_name("task", name, self._all)
        return self._all[name]


def _index(*, with_defaults: bool) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=[str(path) for path in task_paths()], include_defaults=with_defaults
    )
    found: dict[str, Any] = manager.task_index
    return found


def _metrics(config: dict[str, Any]) -> list[str]:
    """Return the metrics that a task's file declares; none where it takes the defaults."""
    return [str(entry["metric"]) for entry in config.get("metric_list") or () if "metric" in entry]


def _broken_down(config: dict[str, Any]) -> tuple[str, ...]:
    """Return how metrics of single categories begin; none where a task has no such metrics."""
    breakdown = (config.get("dataset_kwargs") or {}).get("breakdown")
    return (f"{breakdown['metric']}_",) if breakdown else ()

"""Columns: the paper's in its order (Qian et al. 2024, Tables 1 and 2), then other tasks'."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.benchmarks.registry import BENCHMARKS
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import GENERAL, SAFETY, SUITE, Column
from lm_eval_trust.tasks.metrics import interval_names

_PLAIN = "none"
#: The harness's metric of a run without scoring.
_NO_METRIC = "bypass"
#: Metric with the number of a part's items, of a task whose parts are scored apart: ``items_2a``.
ITEMS = "items"
_NOT_METRICS = frozenset(("alias", "name", "sample_len", "sample_count", _NO_METRIC))


@dataclass(frozen=True)
class Slot:
    """A place in the table that several tasks can fill.

    Attributes:
        title: Title of the column.
        tasks: Names of the tasks or groups, the paper's own first.
        metric: Name of the metric in all of them.
        dimension: As :class:`Column` has it.
        higher_is_better: Direction; ``None`` where 0 is best.
        headline: Whether it counts in win rates.
        reported: Whether the paper's tables have it.
    """

    title: str
    tasks: tuple[str, ...]
    metric: str
    dimension: str
    higher_is_better: bool | None = True
    headline: bool = True
    reported: bool = True

    def column(self, task: str, filter_name: str = _PLAIN, title: str = "") -> Column:
        """Return the column of one of the tasks."""
        return Column(
            task,
            self.metric,
            filter_name,
            title or self.title,
            self.higher_is_better,
            self.dimension,
            self.headline,
        )


_SUITE = Slot(
    "Suite",
    ("trust_suite", "trust_suite_mini"),
    "trust_score",
    SUITE,
    headline=False,
    reported=False,
)
_SAFETY = Slot(
    "Safety",
    ("trust_safety", "trust_safety_mini"),
    "trust_score",
    SAFETY,
    headline=False,
    reported=False,
)
#: Where they stand among the columns of the benchmarks.
_POSITIONS = ((60.0, _SUITE), (69.0, _SAFETY))


@functools.cache
def slots() -> tuple[Slot, ...]:
    """Return the places of all benchmarks, those of other packages included, in their order."""
    found = list(_POSITIONS)
    for benchmark in BENCHMARKS.values():
        dimension = benchmark.dimension.name if benchmark.dimension else GENERAL
        found += [
            (
                column.position,
                Slot(
                    column.title,
                    column.tasks,
                    column.metric,
                    column.dimension or dimension,
                    column.higher_is_better,
                    column.headline,
                    column.reported,
                ),
            )
            for column in benchmark.columns
        ]
    return tuple(slot for _, slot in sorted(found, key=lambda entry: entry[0]))


def figures(run: SavedRun, task: str) -> Mapping[str, Any]:
    """Return the harness's record of a task or group."""
    groups = run.results.get("groups") or {}
    found: Mapping[str, Any] = run.results["results"].get(task) or groups.get(task) or {}
    return found


def numbers(run: SavedRun, task: str) -> dict[tuple[str, str], float]:
    """Return a task's or group's finite scores: (metric, filter) → value, in the file's order."""
    found = {}
    for name, value in figures(run, task).items():
        metric, _, filter_name = name.partition(",")
        if metric in _NOT_METRICS or metric.endswith("_stderr") or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[metric, filter_name] = float(value)
    return found


def part_of(found: Iterable[tuple[str, str]], metric: str) -> str:
    """Return the part of its task that a metric is about, e.g. ``2a``; empty for all items.

    Args:
        found: The task's metrics and filters.
        metric: One of the metrics.
    """
    _, _, part = metric.rpartition("_")
    return part if any(name == f"{ITEMS}_{part}" for name, _ in found) else ""


def stderr(run: SavedRun, column: Column) -> float | None:
    """Return the harness's standard error; ``None`` if it gives none (``N/A``)."""
    value = figures(run, column.task).get(f"{column.metric}_stderr,{column.filter}")
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def recorded_interval(run: SavedRun, task: str, metric: str, filter_name: str) -> Interval | None:
    """Return a metric with the 95 % interval that results have of it; ``None`` without one.

    The ends are ``nan`` where the results say that there is none, as of a single group of items.
    """
    found = figures(run, task)
    named = [f"{name},{filter_name}" for name in (metric, *interval_names(metric))]
    if not all(isinstance(found.get(name), (int, float)) for name in named):
        return None
    return Interval(*(float(found[name]) for name in named))


def leaves(run: SavedRun, name: str) -> tuple[str, ...]:
    """Return the tasks of a group, also those of its groups; of a task, the task itself."""
    listed = (run.results.get("group_subtasks") or {}).get(name) or ()
    members = [member for member in listed if member != name]
    if not members:
        return (name,)
    return tuple(dict.fromkeys(task for member in members for task in leaves(run, member)))


def columns_of(runs: Iterable[SavedRun]) -> tuple[Column, ...]:
    """Return the columns that these runs fill: known ones, then each other task's first metric.

    A task whose parts are scored apart has a column for each, as ConfAIde's second tier has.
    Tasks of a group that has its own score get no separate columns.
    """
    runs = tuple(runs)
    known = [column for slot in slots() for column in _filled(slot, runs)]
    taken = {column.task for column in known}
    others: dict[str, Column] = {}
    for run in runs:
        hidden = _descendants(run) | taken
        for task in run.results["results"]:
            if task not in hidden:
                others.update((c.key, c) for c in _first_metric(run, task))
    return _distinct_titles([*known, *others.values()])


def _filled(slot: Slot, runs: Sequence[SavedRun]) -> Iterator[Column]:
    for task in slot.tasks:
        filters = [
            filter_name
            for run in runs
            for metric, filter_name in numbers(run, task)
            if metric == slot.metric
        ]
        for filter_name in dict.fromkeys(filters):
            named = "" if filter_name == _PLAIN else f"{slot.title} ({filter_name})"
            yield slot.column(task, filter_name, named)


def _descendants(run: SavedRun) -> set[str]:
    groups: Mapping[str, Any] = run.results.get("group_subtasks") or {}
    scored = [name for name, members in groups.items() if members and numbers(run, name)]
    found: set[str] = set()
    waiting = [member for name in scored for member in groups[name]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(groups.get(name) or ())
    return found


def _first_metric(run: SavedRun, task: str) -> Iterator[Column]:
    found = numbers(run, task)
    listed = (run.results.get("configs", {}).get(task) or {}).get("metric_list") or ()
    wanted = [entry.get("metric") for entry in listed if isinstance(entry, Mapping)]
    # A first metric that is NaN leaves the task without a value: another one would stand for it.
    computed = {name.partition(",")[0] for name in figures(run, task)}
    measured = [metric for metric, _ in found]
    metric = next((m for m in (*wanted, *measured) if m in computed), "")
    stem = metric.removesuffix(part_of(found, metric))
    directions = (run.results.get("higher_is_better") or {}).get(task) or {}
    for name, filter_name in found:
        part = part_of(found, name)
        if name == metric or (part and name == f"{stem}{part}"):
            names = (part, "" if filter_name == _PLAIN else filter_name)
            told = ", ".join(filter(None, names))
            title = f"{task} ({told})" if told else task
            higher = directions.get(name) is not False
            yield Column(task, name, filter_name, title, higher)


def _distinct_titles(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns; where titles repeat, with the task in the title."""
    titles = [column.title for column in columns]
    return tuple(
        replace(column, title=f"{column.title} ({column.task})")
        if titles.count(column.title) > 1
        else column
        for column in columns
    )

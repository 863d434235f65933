"""A row's items as what its figure averages: plainly, or task by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import Column
from lm_eval_trust.leaderboard.layout import leaves, numbers
from lm_eval_trust.leaderboard.samples import Samples, Value

#: The harness rounds nothing; only the order of adding up may differ.
_SAME = 1e-6

ByTask = Sequence[Mapping[str, Value]]


@dataclass(frozen=True)
class Stratum:
    """Items of a column that are averaged plainly.

    Attributes:
        weight: Of their mean in the column's figure; a column's weights add up to 1.
        items: Identity of an item → its value.
    """

    weight: float
    items: Mapping[str, Value]


Strata = tuple[Stratum, ...]
Scheme = Callable[[ByTask], Strata]


def pooled(by_task: ByTask) -> Strata:
    """Return all items as one: each task weighs as many items as it has."""
    return (Stratum(1.0, {key: value for values in by_task for key, value in values.items()}),)


def task_by_task(by_task: ByTask) -> Strata:
    """Return a stratum for each task, all of one weight."""
    return tuple(Stratum(1 / len(by_task), values) for values in by_task)


#: The harness's two ways to aggregate a group (``weight_by_size``), which results do not tell.
_SCHEMES: tuple[Scheme, ...] = (pooled, task_by_task)


def strata_of(
    rows: Mapping[str, Iterable[SavedRun]], column: Column, samples: Samples
) -> dict[str, Strata]:
    """Return each row's items behind its figure in a column, values averaged over seeds.

    A way of averaging holds if it gives a run's figure from its items; of the two ways, the one
    that holds for more rows is the column's. Rows are left out whose samples were not saved, or
    whose figure is no mean over them (a perplexity, an F1 score).

    Args:
        rows: Name of a row → its runs.
        column: Of the figure.
        samples: Reads them.

    Raises:
        InputError: Samples are damaged, or others than were evaluated.
    """
    items = {name: _by_run(runs, column, samples) for name, runs in rows.items()}
    found = [
        {
            name: _merged([scheme(by_task) for _, by_task in runs])
            for name, runs in items.items()
            if runs and _all_hold(scheme, runs)
        }
        for scheme in _SCHEMES
    ]
    return max(found, key=len)


def averaged(columns: Sequence[Strata]) -> Strata:
    """Return the strata of the plain mean of several columns."""
    share = 1 / len(columns)
    return tuple(Stratum(s.weight * share, s.items) for strata in columns for s in strata)


def mean(strata: Strata) -> float:
    """Return the figure that strata average to; NaN where one is empty."""
    return sum(s.weight * _mean(s.items.values()) for s in strata)


def _by_run(
    runs: Iterable[SavedRun], column: Column, samples: Samples
) -> list[tuple[float, ByTask]]:
    """Return figure and items of each run that has the figure."""
    place = (column.metric, column.filter)
    return [
        (figure, [samples.values(run, task, column) for task in leaves(run, column.task)])
        for run in runs
        if (figure := numbers(run, column.task).get(place)) is not None
    ]


def _all_hold(scheme: Scheme, runs: Sequence[tuple[float, ByTask]]) -> bool:
    same_tasks = len({len(by_task) for _, by_task in runs}) == 1
    return same_tasks and all(
        math.isclose(mean(scheme(by_task)), figure, rel_tol=_SAME, abs_tol=_SAME)
        for figure, by_task in runs
    )


def _merged(runs: Sequence[Strata]) -> Strata:
    """Return strata whose items are averaged over runs; runs of one row have the same tasks."""
    merged = []
    for same in zip(*runs, strict=True):
        by_key: dict[str, list[Value]] = {}
        for stratum in same:
            for key, value in stratum.items.items():
                by_key.setdefault(key, []).append(value)
        items = {
            key: values[0]._replace(value=_mean(values)) if len(values) > 1 else values[0]
            for key, values in by_key.items()
        }
        merged.append(Stratum(same[0].weight, items))
    return tuple(merged)


def _mean(values: Iterable[Value]) -> float:
    found = [value.value for value in values]
    return sum(found) / len(found) if found else math.nan

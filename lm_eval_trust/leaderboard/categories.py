"""Scores on the items of a benchmark's own categories."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import Category, Column, Row, Score
from lm_eval_trust.leaderboard.items import Samples, Strata
from lm_eval_trust.leaderboard.layout import numbers, recorded_interval
from lm_eval_trust.leaderboard.rows import score_of


def categories_of(rows: Mapping[str, Strata]) -> tuple[Category, ...]:
    """Return a column's categories, sorted by name; empty if the benchmark has none.

    An item of several categories counts in each. The standard error is that of the mean of
    independent items, as the harness computes it for whole tasks.

    Args:
        rows: Name of a row → its items.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, strata in rows.items():
        for value in (value for stratum in strata for value in stratum.items.values()):
            for category in value.categories:
                found.setdefault((value.kind, category), {}).setdefault(name, []).append(
                    value.value
                )
    return tuple(
        Category(kind, category, {name: _score(values) for name, values in by_row.items()})
        for (kind, category), by_row in sorted(found.items())
    )


def _score(values: list[float]) -> Score:
    n = len(values)
    stderr = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return Score(statistics.fmean(values), stderr, n)


def recorded_categories(
    column: Column, rows: Iterable[Row], samples: Samples
) -> tuple[Category, ...]:
    """Return the categories for which results have a column's score and its interval.

    A score that is not a mean over items, such as StereoSet's ICAT, cannot be made again from the
    items of a category.
    """
    found: dict[str, dict[str, Score]] = {}
    for row in rows:
        for name, run in _recorded(row.runs, column).items():
            part = replace(column, metric=f"{column.metric}_{name}")
            if (score := score_of(row.runs, part)) is not None:
                own = replace(score, items=samples.count(run, part), answered=None)
                found.setdefault(name, {})[row.name] = own
    return tuple(Category("category", name, found[name]) for name in sorted(found))


def _recorded(runs: Iterable[SavedRun], column: Column) -> dict[str, SavedRun]:
    """Return the categories with an interval in results, each with a run that has it."""
    prefix = f"{column.metric}_"
    return {
        metric.removeprefix(prefix): run
        for run in runs
        for metric, filter_name in numbers(run, column.task)
        if metric.startswith(prefix) and filter_name == column.filter
        if recorded_interval(run, column.task, metric, filter_name) is not None
    }

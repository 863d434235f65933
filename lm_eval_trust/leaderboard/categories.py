"""A column's scores by the benchmark's own categories."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from lm_eval_trust.leaderboard.board import Category, Score
from lm_eval_trust.leaderboard.items import Strata


def categories_of(rows: Mapping[str, Strata]) -> tuple[Category, ...]:
    """Return a column's categories, sorted by name; empty where the benchmark has none.

    An item of several categories counts in each. The standard error is that of a mean of
    independent items, as the harness gives it for whole tasks.

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

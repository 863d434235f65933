"""How the change in one dimension goes with the change in another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.correlation import correlate
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.leaderboard.board import GENERAL, Column, Correlation, Tradeoffs

#: Fewer rows say nothing of a correlation.
_FEWEST = 4


def tradeoffs(
    columns: Sequence[Column],
    compared: Mapping[str, Mapping[str, Comparison]],
    general: Mapping[str, Comparison],
    *,
    seed: int = 0,
) -> Tradeoffs:
    """Return the paired changes against the reference by dimension, and their correlations.

    Args:
        columns: Those that stand for the dimensions of trust; a row's first of each counts.
        compared: Column's key → row's name → the row less the reference.
        general: Row's name → its mean accuracy in general ability less the reference's.
        seed: Of the correlations' bootstrap.
    """
    changes: dict[str, dict[str, Interval]] = {}
    for column in columns:
        for name, comparison in compared.get(column.key, {}).items():
            change = _better(column, comparison.difference)
            changes.setdefault(name, {}).setdefault(column.dimension, change)
    for name, comparison in general.items():
        changes.setdefault(name, {})[GENERAL] = comparison.difference
    present = {dimension for found in changes.values() for dimension in found}
    named = dict.fromkeys((*(column.dimension for column in columns), GENERAL))
    order = tuple(dimension for dimension in named if dimension in present)
    found = (_correlation(a, b, changes, seed) for a, b in itertools.combinations(order, 2))
    return Tradeoffs(order, changes, tuple(c for c in found if c is not None))


def _better(column: Column, difference: Interval) -> Interval:
    if column.higher_is_better:
        return difference
    # Less zero, lest a change of nothing is printed as -0.
    return Interval(0.0 - difference.mean, 0.0 - difference.high, 0.0 - difference.low)


def _correlation(
    first: str, second: str, changes: Mapping[str, Mapping[str, Interval]], seed: int
) -> Correlation | None:
    both = [c for c in changes.values() if first in c and second in c]
    x, y = ([c[dimension].mean for c in both] for dimension in (first, second))
    if len(both) < _FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    found = correlate(x, y, seed=seed).pearson
    return Correlation(first, second, found.value, found.low, found.high, found.p, len(both))

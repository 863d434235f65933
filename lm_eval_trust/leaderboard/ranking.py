"""Best and runner-up, mean win rate, Pareto front, and trade-offs between dimensions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.correlation import correlate
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.leaderboard.board import (
    GENERAL,
    SAFETY,
    SUITE,
    Column,
    Correlation,
    Row,
    Score,
    Tradeoffs,
)

#: Dimensions of columns that are not dimensions of trust.
_OTHER = ("", GENERAL, SAFETY, SUITE)


def oriented(column: Column, value: float) -> float:
    """Return a value with its sign changed if lower is better, or its distance if 0 is best."""
    if column.higher_is_better is None:
        return -abs(value)
    return value if column.higher_is_better else -value


def ranks(column: Column, rows: Iterable[Row]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the best rows and of the runners-up; rows with equal values share a rank.

    If all rows are equal, there are neither.
    """
    values = {
        row.name: oriented(column, row.scores[column.key].value)
        for row in rows
        if not row.reported and column.key in row.scores
    }
    order = sorted(set(values.values()), reverse=True)
    if len(order) < 2:
        return frozenset(), frozenset()
    best, second = order[:2]
    return (
        frozenset(name for name, value in values.items() if value == best),
        frozenset(name for name, value in values.items() if value == second),
    )


def win_rates(columns: Iterable[Column], rows: Sequence[Row]) -> dict[str, float]:
    """Return each measured row's mean win rate, 0 to 1; a tie counts one half.

    In a headline column, a row's rate is the share of the other rows with a score that it beats;
    its mean win rate is the mean over its columns (Liang et al. 2023, section 10.1). A row without
    a rival in any column has none.
    """
    measured = [row for row in rows if not row.reported]
    rates: dict[str, list[float]] = {row.name: [] for row in measured}
    for column in columns:
        having = [row for row in measured if column.key in row.scores]
        if not column.headline or len(having) < 2:
            continue
        values = [oriented(column, row.scores[column.key].value) for row in having]
        for i, row in enumerate(having):
            others = values[:i] + values[i + 1 :]
            wins = sum((values[i] > v) + 0.5 * (values[i] == v) for v in others)
            rates[row.name].append(wins / len(others))
    return {name: statistics.fmean(found) for name, found in rates.items() if found}


def trust_columns(columns: Iterable[Column]) -> list[Column]:
    """Return the headline columns of the dimensions of trust."""
    return [c for c in columns if c.headline and c.dimension not in _OTHER]


def general_columns(columns: Iterable[Column]) -> list[Column]:
    """Return the accuracies among the columns of general ability."""
    return [c for c in columns if c.dimension == GENERAL and c.higher_is_better]


def pareto_front(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the measured rows that no other row dominates in trust and general ability.

    Trust is the mean over the dimensions, with 1 − x for shares x that are better when low; general
    ability is the mean accuracy. Both use only columns that all rows have, so no row gains by
    leaving out tasks. Without such columns there is no front.
    """
    places = {
        row.name: (trust, general)
        for row in rows
        if not row.reported
        if (trust := _mean(trust_columns(columns), row, rows)) is not None
        if (general := _mean(general_columns(columns), row, rows)) is not None
    }
    return tuple(
        name
        for name, place in places.items()
        if not any(_dominates(other, place) for other in places.values())
    )


def shared_columns(columns: Iterable[Column], rows: Iterable[Row]) -> list[Column]:
    """Return the columns filled by every measured row that fills any of them."""
    columns = list(columns)
    having = [r.scores for r in rows if not r.reported and any(c.key in r.scores for c in columns)]
    return [c for c in columns if all(c.key in scores for scores in having)]


def _mean(columns: Iterable[Column], row: Row, rows: Iterable[Row]) -> float | None:
    shared = shared_columns(columns, rows)
    if not shared or shared[0].key not in row.scores:
        return None
    return statistics.fmean(_share(c, row.scores) for c in shared)


def _share(column: Column, scores: Mapping[str, Score]) -> float:
    value = scores[column.key].value
    return value if column.higher_is_better else 1 - value


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


#: Fewest rows for a correlation.
_FEWEST = 4


def tradeoffs(
    columns: Sequence[Column],
    compared: Mapping[str, Mapping[str, Comparison]],
    general: Mapping[str, Comparison],
    *,
    seed: int = 0,
) -> Tradeoffs:
    """Return the paired changes from the reference by dimension, and their correlations.

    Args:
        columns: Columns of the dimensions of trust; the first that a row has of each dimension
            counts.
        compared: Column's key → row's name → row minus reference.
        general: Row's name → row minus reference in mean accuracy of general ability.
        seed: Seed of the permutations of the correlations.
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
    # Subtracting from zero avoids -0.
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

"""Best and runner-up, mean win rate, Pareto front, and trade-offs between dimensions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.correlation import correlate
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.benchmarks.dimensions import DIMENSIONS
from lm_eval_trust.leaderboard.board import GENERAL, Column, Correlation, Row, Score, Tradeoffs

_TRUST = frozenset(dimension.name for dimension in DIMENSIONS)


def oriented(column: Column, value: float) -> float:
    """Return a value such that larger is better."""
    return value if column.higher_is_better else -value


def ranks(column: Column, rows: Iterable[Row]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the best rows and of the runners-up; rows of one value share a rank.

    Where all rows are equal, none is either.
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
    """Return how often each measured row beats the others, 0 to 1; a tie counts one half.

    In each headline column a row's rate is the share of the other rows with a score there that it
    beats; its mean win rate is the mean over the columns that it has a score in (Liang et al.
    2023, section 10.1). Rows without a rival anywhere have none.
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
    """Return the columns that stand for the dimensions of trust."""
    return [c for c in columns if c.headline and c.dimension in _TRUST]


def general_columns(columns: Iterable[Column]) -> list[Column]:
    """Return the columns of general ability that are accuracies."""
    return [c for c in columns if c.dimension == GENERAL and c.higher_is_better]


def pareto_front(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the measured rows without another as good in trust and ability, and better in one.

    Trust is the mean over the dimensions, a share that is better low counted as 1 less it; general
    ability the mean accuracy. Both go over the columns that all rows with either have, so that
    no row gains by tasks that it left out. Without such columns there is no front.
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
    """Return the columns that all measured rows with a score in any of them have."""
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

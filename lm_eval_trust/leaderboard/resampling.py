"""Paired comparisons of rows on their shared items, and what they hold for tests of many at once.

A column of one stratum gives the same as :func:`lm_eval_trust.analysis.comparison.compare` with the
same items, except ICAT, the smaller of two products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.comparison import SIGN_FLIPS, Comparison, p_of, sign_flip_p
from lm_eval_trust.analysis.derived import SmallerProducts
from lm_eval_trust.analysis.families import Difference, Standing, TestBlock, joint_level, standings
from lm_eval_trust.analysis.statistics import (
    Floats,
    GroupTotals,
    Interval,
    mean_interval,
    step_of,
    summed,
)
from lm_eval_trust.leaderboard.items import Strata, Stratum

#: Assignments of signs behind the intervals of all pairs of rows.
_RANK_FLIPS = 1000


def _interval(differences: Sequence[Difference], level: float) -> Interval:
    """Return the interval of a mean of differences over strata."""
    return summed(
        [(d.weight, d.totals.difference_interval(level, step=d.step)) for d in differences]
    )


@dataclass(frozen=True)
class _Items:
    """Items of one stratum, for rows with the same items.

    Attributes:
        weight: Weight of the stratum.
        values: Shape (items, rows).
        names: Names of the groups.
        sums: Sums of each group, shape (groups, rows).
        sizes: Number of items of each group, shape (groups,).
        products: Sums of each group in ICAT's two products, shape (2, groups, rows); 0 rather than
            2 of other scores.
    """

    weight: float
    values: Floats
    names: tuple[str, ...]
    sums: Floats
    sizes: Floats
    products: Floats

    @classmethod
    def of(cls, strata: Sequence[Stratum]) -> _Items:
        """Align the items of one stratum of several rows."""
        keys = sorted(strata[0].items)
        values = np.array([[s.items[key].value for s in strata] for key in keys], dtype=np.float64)
        groups = [strata[0].items[key].group for key in keys]
        names, index = np.unique(groups, return_inverse=True)

        def summed_up(of_items: Floats) -> Floats:
            sums = np.zeros((len(names), *of_items.shape[1:]))
            np.add.at(sums, index, of_items)
            return sums

        pairs = [[s.items[key].products for s in strata] for key in keys]
        complete = all(pair for of_item in pairs for pair in of_item)
        products = np.array(pairs) if complete else np.zeros((*values.shape, 0))
        return cls(
            strata[0].weight,
            values,
            tuple(names.tolist()),
            summed_up(values),
            np.bincount(index).astype(np.float64),
            np.moveaxis(summed_up(products), 2, 0),
        )

    @property
    def means(self) -> Floats:
        """Mean of each row, shape (rows,)."""
        means: Floats = self.values.mean(axis=0)
        return means

    def difference(self, a: int, b: int) -> Difference:
        """Return row b minus row a."""
        totals = GroupTotals(self.sums[:, b] - self.sums[:, a], self.sizes)
        if len(self.products):
            first, second = self.products[..., a], self.products[..., b]
            totals = SmallerProducts.between(first, second, self.sizes)
        step = step_of(totals, self.values[:, a], self.values[:, b])
        return Difference(self.weight, totals, step)

    def noise(self) -> Floats:
        """Return the variance of each row's deviation from the mean of the rows, shape (rows,)."""
        beyond = self.sums - self.sums.mean(axis=1, keepdims=True)
        errors = [GroupTotals(of_row, self.sizes).standard_error for of_row in beyond.T]
        found: Floats = np.square(self.weight * np.array(errors))
        return found


@dataclass(frozen=True)
class PairedRows:
    """Two rows compared in one column.

    Attributes:
        comparison: Second minus first.
        groups: Identity of each group of items.
        differences: Those of each stratum.
    """

    comparison: Comparison
    groups: tuple[str, ...]
    differences: tuple[Difference, ...]

    def interval(self, level: float) -> Interval:
        """Return the interval of the difference at another level."""
        return _interval(self.differences, level)


Pairs = Mapping[tuple[str, str], PairedRows]


def compare_rows(
    rows: Mapping[str, Strata], pairs: Iterable[tuple[str, str]], *, confidence: float = 0.95
) -> dict[tuple[str, str], PairedRows]:
    """Compare pairs of rows in one column; pairs without shared items are left out.

    Args:
        rows: Name of a row → its items.
        pairs: Names of the rows of each pair.
        confidence: Confidence of the two-sided intervals.
    """
    by_items: dict[tuple[frozenset[str], ...], list[tuple[str, str]]] = {}
    items = {name: _identities(strata) for name, strata in rows.items()}
    for first, second in pairs:
        if len(items[first]) == len(items[second]):
            shared = tuple(a & b for a, b in zip(items[first], items[second], strict=True))
            if all(shared):
                by_items.setdefault(shared, []).append((first, second))
    found: dict[tuple[str, str], PairedRows] = {}
    for shared, same in by_items.items():
        names = list(dict.fromkeys(name for pair in same for name in pair))
        strata = _aligned({name: rows[name] for name in names}, shared)
        for first, second in same:
            places = names.index(first), names.index(second)
            found[first, second] = _compare(strata, *places, confidence)
    return found


def interval_of(strata: Strata, confidence: float) -> Interval:
    """Return a row's score in one column with its interval over groups of items.

    Args:
        strata: The row's items, each stratum with some.
        confidence: Two-sided.
    """
    return summed([(s.weight, _alone(s, confidence)) for s in strata])


def _alone(stratum: Stratum, confidence: float) -> Interval:
    values = np.array([value.value for value in stratum.items.values()], dtype=np.float64)
    groups = [value.group for value in stratum.items.values()]
    low, high = mean_interval(values, groups, confidence)
    return Interval(float(values.mean()), low, high)


def standings_of(
    rows: Mapping[str, Strata], confidence: float, *, higher_is_better: bool
) -> dict[str, Standing]:
    """Return what a column tells of its rows' places, on the items that all of them have.

    Empty with fewer than two rows, without items that all share, or with a single group.

    Args:
        rows: Name of a row → its items.
        confidence: Confidence of all ranks together.
        higher_is_better: Direction of the column.
    """
    items = [_identities(strata) for strata in rows.values()]
    if len(items) < 2 or len({len(each) for each in items}) > 1:
        return {}
    shared = tuple(frozenset.intersection(*same) for same in zip(*items, strict=True))
    if not all(shared):
        return {}
    strata = _aligned(rows, shared)
    groups = [name for s in strata for name in s.names]
    if len(groups) < 2:
        return {}
    sign = 1.0 if higher_is_better else -1.0
    scores = sign * np.sum([s.weight * s.means for s in strata], axis=0)
    noise = np.sum([s.noise() for s in strata], axis=0)
    found = standings(scores, _certainly_above(strata, groups, scores, confidence), noise)
    return {
        name: Standing(s.rank_low, s.rank_high, s.may_be_best, sign * s.shrunk)
        for name, s in zip(rows, found, strict=True)
    }


def _certainly_above(
    strata: Sequence[_Items], groups: Sequence[str], scores: Floats, confidence: float
) -> npt.NDArray[np.bool_]:
    """Return whether row i is above row j by the intervals of all pairs, shape (rows, rows)."""
    above = np.zeros((len(scores), len(scores)), dtype=bool)
    pairs = {
        (int(i), int(j)): tuple(s.difference(j, i) for s in strata)
        for i, j in combinations(np.argsort(-scores, kind="stable"), 2)
    }
    block = TestBlock(groups, list(pairs.values()))
    level = joint_level([block], confidence, flips=_RANK_FLIPS)
    for place, pair in pairs.items():
        ends = _interval(pair, level)
        above[place] = ends.low > 0 or ends.high < 0
    return above


def _identities(strata: Strata) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(stratum.items) for stratum in strata)


def _aligned(rows: Mapping[str, Strata], shared: Sequence[frozenset[str]]) -> list[_Items]:
    restricted = [_restricted(strata, shared) for strata in rows.values()]
    return [_Items.of(of_rows) for of_rows in zip(*restricted, strict=True)]


def _restricted(strata: Strata, shared: Sequence[frozenset[str]]) -> Strata:
    return tuple(
        s if len(keys) == len(s.items) else Stratum(s.weight, {k: s.items[k] for k in keys})
        for s, keys in zip(strata, shared, strict=True)
    )


def _compare(strata: Sequence[_Items], a: int, b: int, confidence: float) -> PairedRows:
    differences = tuple(s.difference(a, b) for s in strata)
    if len(strata) == 1:
        p, test = p_of(strata[0].values[:, a], strata[0].values[:, b], differences[0].totals)
    else:
        whole = [d.weight * d.totals.sums / d.totals.sizes.sum() for d in differences]
        p, test = sign_flip_p(np.concatenate(whole)), SIGN_FLIPS
    items = sum(len(s.values) for s in strata)
    names = tuple(name for s in strata for name in s.names)
    return PairedRows(
        Comparison(_interval(differences, confidence), p, test, items, len(names)),
        names,
        differences,
    )

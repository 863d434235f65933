"""Paired comparisons of rows on their shared items, with the same bootstrap draws for all rows.

A column of one stratum gives the same as :func:`lm_eval_trust.analysis.comparison.compare` with the
same items and seed. Because all rows share the draws, fifty rows cost little more than two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.comparison import (
    BOOTSTRAP,
    MCNEMAR,
    RESAMPLES,
    Comparison,
    bootstrap_p,
    mcnemar,
)
from lm_eval_trust.analysis.statistics import Interval, percentile_ends, resampled_means
from lm_eval_trust.leaderboard.items import Strata, Stratum

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Items:
    """Items of one stratum, for rows with the same items.

    Attributes:
        weight: Of the stratum.
        values: Shape (items, rows).
        sums: Of each group, shape (groups, rows).
        sizes: Number of items of each group, shape (groups,).
    """

    weight: float
    values: Floats
    sums: Floats
    sizes: Floats

    @classmethod
    def of(cls, strata: Sequence[Stratum]) -> _Items:
        """Align the items of one stratum of several rows."""
        keys = sorted(strata[0].items)
        values = np.array([[s.items[key].value for s in strata] for key in keys], dtype=np.float64)
        groups = [strata[0].items[key].group for key in keys]
        index = np.unique(groups, return_inverse=True)[1]
        sums = np.zeros((index.max() + 1, len(strata)))
        np.add.at(sums, index, values)
        return cls(strata[0].weight, values, sums, np.bincount(index).astype(np.float64))

    @property
    def means(self) -> Floats:
        """Mean of each row, shape (rows,)."""
        means: Floats = self.values.mean(axis=0)
        return means

    def drawn(self, generator: np.random.Generator) -> Floats:
        """Return the rows' means over resampled groups, shape (resamples, rows)."""
        return resampled_means(self.sums, self.sizes, RESAMPLES, generator)


def compare_rows(
    rows: Mapping[str, Strata],
    pairs: Iterable[tuple[str, str]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[tuple[str, str], Comparison]:
    """Compare pairs of rows in one column; pairs without shared items are left out.

    Args:
        rows: Name of a row → its items.
        pairs: Names of the rows of each pair.
        confidence: Of the two-sided intervals.
        seed: Of the bootstrap.
    """
    by_items: dict[tuple[frozenset[str], ...], list[tuple[str, str]]] = {}
    items = {name: _identities(strata) for name, strata in rows.items()}
    for first, second in pairs:
        if len(items[first]) == len(items[second]):
            shared = tuple(a & b for a, b in zip(items[first], items[second], strict=True))
            if all(shared):
                by_items.setdefault(shared, []).append((first, second))
    found: dict[tuple[str, str], Comparison] = {}
    for shared, same in by_items.items():
        names = list(dict.fromkeys(name for pair in same for name in pair))
        restricted = {name: _restricted(rows[name], shared) for name in names}
        found.update(_compare(restricted, same, confidence, seed))
    return found


def _identities(strata: Strata) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(stratum.items) for stratum in strata)


def _restricted(strata: Strata, shared: Sequence[frozenset[str]]) -> Strata:
    return tuple(
        s if len(keys) == len(s.items) else Stratum(s.weight, {k: s.items[k] for k in keys})
        for s, keys in zip(strata, shared, strict=True)
    )


def _compare(
    rows: Mapping[str, Strata], pairs: Sequence[tuple[str, str]], confidence: float, seed: int
) -> dict[tuple[str, str], Comparison]:
    strata = [_Items.of(of_rows) for of_rows in zip(*rows.values(), strict=True)]
    place = {name: i for i, name in enumerate(rows)}
    means = np.sum([s.weight * s.means for s in strata], axis=0)
    drawn = _drawn(strata, seed)
    items = sum(len(s.values) for s in strata)
    groups = sum(len(s.sizes) for s in strata)
    found = {}
    for first, second in pairs:
        a, b = place[first], place[second]
        mean, differences = float(means[b] - means[a]), drawn[:, b] - drawn[:, a]
        p, test = _test(strata, a, b, mean, differences)
        interval = Interval(mean, *percentile_ends(differences, confidence))
        found[first, second] = Comparison(interval, p, test, items, groups)
    return found


def _drawn(strata: Sequence[_Items], seed: int) -> Floats:
    """Resample strata independently; a single one as ``compare`` does."""
    if len(strata) == 1:
        return strata[0].drawn(np.random.default_rng(seed))
    total = np.zeros((RESAMPLES, strata[0].values.shape[1]))
    for k, stratum in enumerate(strata):
        total += stratum.weight * stratum.drawn(np.random.default_rng([seed, k]))
    return total


def _test(
    strata: Sequence[_Items], a: int, b: int, mean: float, differences: Floats
) -> tuple[float, str]:
    if len(strata) == 1 and (strata[0].sizes == 1).all():
        first, second = strata[0].values[:, a], strata[0].values[:, b]
        if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
            return mcnemar(int((second > first).sum()), int((first > second).sum())), MCNEMAR
    groups = sum(len(stratum.sizes) for stratum in strata)
    return bootstrap_p(differences, mean, groups), BOOTSTRAP

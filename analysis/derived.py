"""Intervals of scores that are functions of several means: StereoSet's ICAT and the drop rate.

The means have the intervals of :mod:`lm_eval_trust.analysis.statistics`, so skewness, and the
bounds of shares, carry over. Together they give that of a product as Zou and Donner (2008) combine
the distances of ends that depend on each other: by the correlation over groups.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.statistics import (
    Floats,
    GroupTotals,
    Interval,
    finite,
    paired,
)
from lm_eval_trust.core.errors import InputError


def mean_over_groups(
    values: npt.ArrayLike, groups: Sequence[Hashable], level: float = 0.95
) -> Interval:
    """Return the mean over groups of the mean over a group's items, with its interval.

    Each group counts the same, however many items it has (StereoSet's target terms). The ends of a
    single group are ``nan``.

    Args:
        values: Yes-or-no scores as shares, from 0 to 1, shape (n,).
        groups: Group of each item, length n.
        level: Confidence, between 0 and 1.

    Raises:
        InputError: No values, values outside 0 to 1, other lengths, or a level outside (0, 1).
    """
    return _share(_equal_groups(_shares(values), groups), level)


def icat_interval(
    language: npt.ArrayLike,
    stereotype: npt.ArrayLike,
    terms: Sequence[Hashable],
    level: float = 0.95,
) -> Interval:
    """Return StereoSet's ICAT, 0 to 100, with its interval; the ends of a single term are ``nan``.

    ICAT is the smaller of two products, l · s / 50 and l · (100 − s) / 50, which meet at s = 50.
    Its interval goes from the smaller of their lower ends to the smaller of their upper ends. At
    the kink, where either product may be the smaller one, each upper end misses the truth as often
    as an interval's two ends do together, and the lower end hardly ever does; so it is as
    trustworthy there as elsewhere, but ICAT itself is below the truth on average.

    Args:
        language: Language-modelling score of each item, 0 to 100, shape (n,).
        stereotype: Stereotype score of each item, 0 to 100, shape (n,).
        terms: Target term of each item, length n.
        level: Confidence, between 0 and 1.

    Raises:
        InputError: As :func:`mean_over_groups`.
    """
    meaningful, stereotypical = paired(language, stereotype)
    first = _equal_groups(_shares(meaningful / 100), terms)
    found = []
    for side in (stereotypical / 100, 1 - stereotypical / 100):
        second = _equal_groups(_shares(side), terms)
        both = _correlation(first, second)
        found.append(_product(_share(first, level), _share(second, level), both))
    ends = [[f.mean, f.low, f.high] for f in found]
    value, low, high = 200 * np.clip(np.min(ends, axis=0), 0.0, 0.5)
    return Interval(float(value), float(low), float(high))


def icat_by_term(
    language: npt.ArrayLike, stereotype: npt.ArrayLike, terms: Sequence[Hashable]
) -> dict[Hashable, float]:
    """Return values of target terms whose mean is ICAT: those of its smaller product.

    Args:
        language: As for :func:`icat_interval`.
        stereotype: The same.
        terms: The same.

    Returns:
        Term → value; a term's may lie outside 0 to 100.

    Raises:
        InputError: As :func:`icat_interval`.
    """
    products = icat_products(language, stereotype, terms)
    smaller = int(np.argmin(np.mean(list(products.values()), axis=0)))
    return {term: both[smaller] for term, both in products.items()}


def icat_products(
    language: npt.ArrayLike, stereotype: npt.ArrayLike, terms: Sequence[Hashable]
) -> dict[Hashable, tuple[float, float]]:
    """Return values of target terms whose means are ICAT's two products.

    Each term's is the product plus what the term's two scores beyond their means change in it, to
    first order. :class:`SmallerProducts` compares two models by them.

    Args:
        language: As for :func:`icat_interval`.
        stereotype: The same.
        terms: The same.

    Returns:
        Term → value in l · s / 50 and in l · (100 − s) / 50.

    Raises:
        InputError: As :func:`icat_interval`.
    """
    meaningful, stereotypical = paired(language, stereotype)
    first = _equal_groups(_shares(meaningful / 100), terms)
    found = []
    for side in (stereotypical / 100, 1 - stereotypical / 100):
        second = _equal_groups(_shares(side), terms)
        beyond = first.residuals * second.mean + first.mean * second.residuals
        values = 200 * (first.mean * second.mean + beyond / first.sizes)
        found.append(values.tolist())
    return dict(zip(dict.fromkeys(terms), zip(*found, strict=True), strict=True))


@dataclass(frozen=True)
class SmallerProducts(GroupTotals):
    """Two models' differences in the smaller of two products, by group, as for ICAT.

    Which product is the smaller one is uncertain near ``ss`` = 50. With D_ab the second model's
    product b minus the first's product a, the difference is both the largest over a of the smallest
    over b and the smallest over b of the largest over a; and it lies between D_11 and D_22. The
    interval says the same of the ends of D_ab. The sums are those of the D_ab that decides whether
    it contains 0, so a test of them agrees with it.

    Attributes:
        differences: D_ab by group, first by a and then by b.
    """

    differences: tuple[tuple[GroupTotals, ...], ...]

    @classmethod
    def between(cls, first: Floats, second: Floats, sizes: Floats) -> SmallerProducts:
        """Compare two models.

        Args:
            first: Sums of the first model's two products over each group, shape (2, groups).
            second: The same of the second's.
            sizes: Items of each group, shape (groups,).
        """
        found = tuple(tuple(GroupTotals(b - a, sizes) for b in second) for a in first)
        scaled = np.array(
            [[d.mean / (np.nan_to_num(d.standard_error) + 1e-12) for d in row] for row in found]
        )
        a, b = np.argwhere(scaled == min(_smaller_difference(scaled, scaled), key=abs))[0]
        return cls(found[a][b].sums, sizes, found)

    def interval(self, level: float = 0.95, *, step: float = 0.0, skewed: bool = True) -> Interval:
        """Return the difference with its interval; see :meth:`GroupTotals.interval`."""
        rows = [
            [d.interval(level, step=step, skewed=skewed) for d in row] for row in self.differences
        ]
        found = np.array([[(f.mean, f.low, f.high) for f in row] for row in rows])
        mean, low, high = found[..., 0], found[..., 1], found[..., 2]
        return Interval(_smaller_difference(mean, mean)[0], *_smaller_difference(low, high))


def _smaller_difference(lows: Floats, highs: Floats) -> tuple[float, float]:
    """Return both ends of a difference of smaller products from those of each pair, (2, 2)."""
    low = max(lows.min(axis=1).max(), lows.diagonal().min())
    high = min(highs.max(axis=0).min(), highs.diagonal().max())
    return float(low), float(high)


def drop_rate_interval(
    original: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval:
    """Return 1 − (accuracy on perturbed) / (accuracy on original) with its interval.

    The ratio of the items lost to those that were right. All three numbers are ``nan`` if no
    original is right; the ends are if all that are belong to one group.

    Args:
        original: 1 for each item whose original is answered correctly, otherwise 0, shape (n,).
        perturbed: The same of its perturbed form.
        groups: Group of each item; by default every item is its own group.
        level: Confidence, between 0 and 1.

    Raises:
        InputError: Values other than 0 and 1, no items, other lengths, or a level outside (0, 1).
    """
    before, after = paired(original, perturbed)
    if not (np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all()):
        raise InputError("A drop rate needs answers that are right or wrong: values of 0 or 1.")
    if not before.any():
        return Interval(math.nan, math.nan, math.nan)
    totals = GroupTotals.of(before - after, groups, weights=before)
    found = [totals.interval(level)]
    if abs(totals.mean) <= 1:
        found.append(totals.interval(level, step=1.0))
    low, high = min(f.low for f in found), max(f.high for f in found)
    return Interval(totals.mean, low, min(high, 1.0))


def _shares(values: npt.ArrayLike) -> Floats:
    numbers = finite(values)
    if numbers.min() < 0 or numbers.max() > 1:
        raise InputError(
            f"Scores have to lie on their scale, 0 to 1 or 0 to 100; as shares these go from "
            f"{numbers.min():g} to {numbers.max():g}."
        )
    return numbers


def _equal_groups(values: Floats, groups: Sequence[Hashable]) -> GroupTotals:
    """Weight items so that each group counts the same, and all of them as much as before."""
    if len(groups) != len(values):
        raise InputError(f"{len(groups)} groups were given for {len(values)} items.")
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    weights = np.array([len(values) / len(sizes) / sizes[group] for group in groups])
    return GroupTotals.of(values * weights, groups, weights=weights)


def _share(totals: GroupTotals, level: float) -> Interval:
    """Return the interval of a share, whose groups may all agree, or be skewed."""
    found = [totals.interval(level, step=step) for step in (1.0, 0.0)]
    low, high = min(f.low for f in found), max(f.high for f in found)
    return Interval(totals.mean, *(float(np.clip(end, 0.0, 1.0)) for end in (low, high)))


def _correlation(one: GroupTotals, other: GroupTotals) -> float:
    """Return how the errors of two means go together over groups; 0 if either has none."""
    size = math.sqrt(np.square(one.residuals).sum() * np.square(other.residuals).sum())
    return float(one.residuals @ other.residuals) / size if size else 0.0


def _product(one: Interval, other: Interval, correlation: float) -> Interval:
    """Return the product of two shares with its interval, from theirs and their correlation."""
    mean, ends = one.mean * other.mean, []
    for sign, first, second in ((-1, one.low, other.low), (1, one.high, other.high)):
        a, b = abs(first - one.mean), abs(second - other.mean)
        along, across = a * other.mean, b * one.mean
        # What both are wrong by at once moves the product further up, and less far down.
        both = a * b if sign > 0 else 0.0
        square = along**2 + across**2 + 2 * correlation * along * across + both**2
        ends.append(mean + sign * math.sqrt(max(square, 0.0)))
    return Interval(mean, ends[0], ends[1])

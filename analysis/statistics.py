"""Intervals of means, shares, ratios and differences over items in groups: one engine for all.

Items of one group (the answers to one question, the sentences of one context) stand or fall
together, so the group is the unit. A mean over items is a ratio of sums over groups, and its
standard error is the jackknife's that leaves out one group at a time (CR3: residuals divided by one
minus their group's share of the items; MacKinnon, Nielsen and Webb 2023), which few groups do not
make too small. The interval is the union of Student's and one that follows the values:

- Student's, with one degree of freedom less than the effective number of groups;
- for values of any size the bootstrap-t over groups (Efron and Tibshirani 1993, chapter 12), which
  follows their skewness; its first-order expansion (Johnson 1978) takes its place where that is
  accurate, and joins it in tails that too few draws reach;
- for items of two values Wilson's (1927), with an effective number of items, which stays open where
  all items agree; their differences get Tango's (1998) as well, which allows for changes in a
  direction in which few or none were seen. Graded values count as such if few groups differ: see
  :func:`step_of`.

The draws have a fixed seed and depend on nothing but the number of groups, so the same items give
the same interval, in whatever order they come.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from lm_eval_trust.analysis.bootstrap_t import FAR_TAIL, student_quantiles
from lm_eval_trust.analysis.score_tests import score_variance, wilson_ends
from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.float64]

#: Fewest groups for which the coverage of intervals was measured; with fewer, say so. A resample
#: of fewer groups too often draws nearly the same ones, whose spread nothing can be divided by.
FEW_GROUPS = 8
#: Few groups draw too few extremes: nominal tails are divided by 1 + 8 / groups, by the coverage
#: that docs/statistics.md reports. Groups that are so unequal that they count as fewer than ten add
#: at most a tenth of that number to the 1, since Student's quantile is large enough by itself.
#: Far tails, which families of tests need, are divided as those of the fewest groups.
_FURTHER, _EFFECTIVE = 8, 10
#: Groups that differ from the rest at which half of the effective size rests on what was observed.
_PRIOR_GROUPS = 4


@dataclass(frozen=True)
class Interval:
    """A mean, or a mean difference, with its confidence interval.

    Attributes:
        mean: The estimate.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def mean_interval(
    values: npt.ArrayLike, groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return the two-sided interval of a mean over items; ``nan`` for both ends of a single group.

    Values that are all 0 or 1 are a share: see :func:`proportion_interval`. Values that are all
    −1, 0 or 1 are differences of yes-or-no items. Others are taken from the most common value:
    see :func:`step_of`. Measured coverage at 0.95 is in docs/statistics.md; with fewer than
    :data:`FEW_GROUPS` groups it was not measured.

    Args:
        values: One for each item, finite, shape (n,).
        groups: Group of each item, length n; by default every item is its own group.
        level: Confidence, between 0 and 1.

    Raises:
        InputError: No values, values that are not finite, other lengths, or a level outside (0, 1).
    """
    found = _mean(finite(values), groups, level)
    return found.low, found.high


def proportion_interval(
    values: npt.ArrayLike, groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return the two-sided interval of a share, within 0 and 1.

    Twenty items that are all right do not show a share of 1: yes-or-no items get Wilson's interval
    with an effective number of items, which lies between that of independent items and Kish's
    (1965) of groups that change as a whole.

    Args:
        values: One for each item, from 0 to 1, shape (n,).
        groups: As for :func:`mean_interval`.
        level: The same.

    Raises:
        InputError: As :func:`mean_interval`, or values outside 0 to 1.
    """
    numbers = finite(values)
    if numbers.min() < 0 or numbers.max() > 1:
        raise InputError(
            f"A share needs values from 0 to 1; these go from {numbers.min():g} to "
            f"{numbers.max():g}. Use mean_interval."
        )
    return _clipped(_mean(numbers, groups, level))


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the two-sided interval of a ratio of sums, such as log-likelihood by words.

    Args:
        numerators: One for each item, shape (n,).
        denominators: One for each item, at least 0, shape (n,).
        groups: As for :func:`mean_interval`.
        level: The same.

    Raises:
        InputError: As :func:`mean_interval`, denominators below 0, or all in one group.
    """
    found = GroupTotals.of(finite(numerators), groups, weights=denominators).interval(level)
    return found.low, found.high


def paired_interval(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the two-sided interval of the mean difference ``after − before`` on the same items.

    Args:
        before: One value for each item, shape (n,).
        after: The same, in the same order.
        groups: As for :func:`mean_interval`.
        level: The same.

    Raises:
        InputError: As :func:`mean_interval`.
    """
    first, second = paired(before, after)
    totals = GroupTotals.of(second - first, groups)
    found = totals.difference_interval(level, step=step_of(totals, first, second))
    return found.low, found.high


@dataclass(frozen=True)
class GroupTotals:
    """Values of items, summed by group: all that a mean over grouped items needs.

    Attributes:
        sums: Sum of each group's values, float64, shape (groups,).
        sizes: Items of each group, or the sum of their weights, float64, shape (groups,).
    """

    sums: Floats
    sizes: Floats

    @classmethod
    def of(
        cls,
        values: Floats,
        groups: Sequence[Hashable] | None = None,
        *,
        weights: npt.ArrayLike | None = None,
    ) -> GroupTotals:
        """Sum values by group.

        Args:
            values: Shape (n,).
            groups: Group of each item; by default every item is its own group.
            weights: Weights of each item in the denominator of the mean, at least 0; by default 1.

        Raises:
            InputError: Other lengths, or weights that are negative, not finite or all 0.
        """
        size = np.ones(len(values)) if weights is None else finite(weights)
        if len(size) != len(values) or (groups is not None and len(groups) != len(values)):
            given = len(size) if groups is None or len(size) != len(values) else len(groups)
            what = "weights" if given == len(size) != len(values) else "groups"
            raise InputError(f"{given} {what} were given for {len(values)} items.")
        if size.min() < 0 or not size.sum() > 0:
            raise InputError("Weights, or denominators, have to be at least 0 and not all 0.")
        if groups is None:
            return cls(values, size)
        numbers: dict[Hashable, int] = {}
        # The elements of a tensor hash by their identity.
        named = getattr(groups, "tolist", lambda: groups)()
        try:
            index = np.array([numbers.setdefault(group, len(numbers)) for group in named])
        except TypeError as error:
            raise InputError(f"Groups are names or numbers, one for each item: {error}.") from None
        sums = np.bincount(index, weights=values).astype(np.float64)
        return cls(sums, np.bincount(index, weights=size).astype(np.float64))

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.sums)

    @cached_property
    def mean(self) -> float:
        """Mean over items."""
        return float(self.sums.sum() / self.sizes.sum())

    @cached_property
    def residuals(self) -> Floats:
        """Each group's sum beyond what the mean expects of it, shape (groups,)."""
        found: Floats = self.sums - self.mean * self.sizes
        found[np.abs(found) <= 1e-12 * np.abs(self.sums).max(initial=0.0)] = 0.0
        return found

    @cached_property
    def standard_error(self) -> float:
        """Standard error of the mean, by the jackknife over groups; ``nan`` for a single group."""
        if self.groups < 2 or self.sizes.max() == self.sizes.sum():
            return math.nan
        left_out = self.residuals / (1 - self.sizes / self.sizes.sum())
        scale = math.sqrt((self.groups - 1) / self.groups) / self.sizes.sum()
        return float(scale * np.sqrt(np.square(left_out).sum()))

    @property
    def whole_groups(self) -> float:
        """Effective number of items if those of a group always change together (Kish 1965)."""
        return float(self.sizes.sum() ** 2 / np.square(self.sizes).sum())

    def effective_items(self, step: float = 1.0) -> float:
        """Return the effective number of independent two-valued items with this standard error.

        The number that the observed variance implies, at most that of the items and at least
        :attr:`whole_groups`. If few groups contain an item that differs from the rest, the variance
        says little, so the two are mixed: harmonically, with a weight of f / (f + 4) for the
        observed one where f groups differ. Changes of opposite signs inside a group cancel and are
        not counted, which errs towards fewer items.

        Args:
            step: By how much an item changes.
        """
        least, most = self.whole_groups, float(self.sizes.sum())
        changed = np.abs(self.sums) / step
        observed = least
        if self.standard_error > 0:
            variance = float(changed.sum() / self.sizes.sum()) - (self.mean / step) ** 2
            observed = min(max(variance / (self.standard_error / step) ** 2, least), most)
        differing = min(int((changed > 0).sum()), int((changed < self.sizes).sum()))
        return effective_number(observed, least, differing)

    def quantile(self, probability: float) -> float:
        """Return the quantile of Student's t, with one degree of freedom less than whole groups.

        Groups of unequal sizes count as fewer than they are (Carter, Schnepel and Steigerwald
        2017).
        """
        return float(special.stdtrit(max(self.whole_groups - 1, 1.0), probability))

    def interval(self, level: float = 0.95, *, step: float = 0.0, skewed: bool = True) -> Interval:
        """Return the mean with its two-sided interval; the ends of a single group are ``nan``.

        Args:
            level: Confidence, between 0 and 1.
            step: By how much an item changes, if it changes; 0 if by any amount.
            skewed: Whether the bootstrap-t takes part for other values; Student's is left if not.

        Raises:
            InputError: A level outside (0, 1).
        """
        if not 0 < level < 1:
            raise InputError(f"The level is {level}; expected a number between 0 and 1.")
        if math.isnan(self.standard_error):
            return Interval(self.mean, math.nan, math.nan)
        half = self.quantile((1 + level) / 2) * self.standard_error
        ends = [self.mean - half, self.mean + half]
        ends += self._wilson(level, step) if step else self._studentised(level) if skewed else []
        return Interval(self.mean, min(ends), max(ends))

    def difference_interval(self, level: float = 0.95, *, step: float) -> Interval:
        """Return a mean difference with its interval; see :meth:`interval`.

        If few items were seen to change in one direction, or none, more may: Student's interval
        doesn't allow for it, and Wilson's takes all changes to have one direction.

        Args:
            level: Confidence, between 0 and 1.
            step: By how much an item changes, if it changes: see :func:`step_of`.

        Raises:
            InputError: A level outside (0, 1).
        """
        found = self.interval(level, step=step)
        if not step or math.isnan(found.low):
            return found
        ends = self.score_ends(self.quantile((1 + level) / 2), self.effective_items(step), step)
        return Interval(found.mean, min(found.low, *ends), max(found.high, *ends))

    def score_ends(self, quantile: float, items: float, step: float = 1.0) -> list[float]:
        """Return Tango's score ends (1998) of a difference of two-valued items.

        The variance is that under each tested mean, so items that change one way rather than the
        other skew the interval.

        Args:
            quantile: Quantile of the normal distribution, or of Student's.
            items: Number of independent items, or an effective number.
            step: By how much an item changes, if it changes.
        """
        mean = min(1.0, max(-1.0, self.mean / step))
        error = self.standard_error / step
        share = min(1.0, max(abs(mean), (items - 1) * error**2 + mean**2))

        def beyond(x: float) -> float:
            return (x - mean) ** 2 - quantile**2 * score_variance(x, share, mean) / items

        near = 1e-9
        return [
            step * float(optimize.brentq(beyond, mean + sign * near, sign))
            if beyond(mean + sign * near) < 0
            else self.mean
            for sign in (-1.0, 1.0)
        ]

    def _wilson(self, level: float, step: float) -> list[float]:
        """Return Wilson's ends, of the mean as a share of items that changed in one direction."""
        quantile = self.quantile((1 + level) / 2)
        share = min(1.0, abs(self.mean) / step)
        low, high = (step * end for end in wilson_ends(share, self.effective_items(step), quantile))
        if self.mean == 0:
            # Nothing changed, or as much in both directions: the change may be in either.
            return [-high, high]
        return [low, high] if self.mean > 0 else [-high, -low]

    def _studentised(self, level: float) -> list[float]:
        """Return the bootstrap-t's ends; none where draws have too little spread to divide by."""
        if self.standard_error == 0 or self.groups < FEW_GROUPS:
            return []
        # The same draws for values and their negatives, so that swapping two models mirrors ends.
        sign = 1.0 if np.power(self.residuals, 3).sum() >= 0 else -1.0
        tail = (1 - level) / 2
        few = FEW_GROUPS if tail < FAR_TAIL else self.groups
        tail /= 1 + min(_FURTHER / few, self.whole_groups / _EFFECTIVE)
        quantile = self.quantile(1 - tail)
        found = student_quantiles(sign * self.residuals, self.sizes, tail, quantile)
        return [self.mean - sign * self.standard_error * each for each in found]


def summed(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Return the interval of a weighted sum of independent estimates, from their own intervals.

    Each end is as far from the estimate as the root of the summed squares of the parts' distances
    (Zou and Donner 2008), so skewness and the bounds of shares carry over.

    Args:
        parts: Weight and interval of each; an end that is ``nan`` makes the sum's ends ``nan``.
    """
    mean = sum(weight * part.mean for weight, part in parts)
    sides = []
    for up in (False, True):
        ends = [
            weight * ((part.high if up == (weight > 0) else part.low) - part.mean)
            for weight, part in parts
        ]
        sides.append(math.hypot(*ends))
    return Interval(mean, mean - sides[0], mean + sides[1])


def few_groups(groups: int) -> str:
    """Return what is to be said of an interval over so few groups; empty where they are enough."""
    if groups >= FEW_GROUPS:
        return ""
    if groups < 2:
        return "a single group of items has no interval"
    return f"with {groups} groups of items, fewer than {FEW_GROUPS}, the interval may be too short"


def effective_number(observed: float, least: float, differing: int) -> float:
    """Return an effective number of items between that observed and the least possible.

    Their harmonic mean, weighted by how much the observed one can be trusted.

    Args:
        observed: What the variance implies.
        least: If the items of each group always change together.
        differing: Number of groups that hold an item that differs from the rest.
    """
    weight = differing / (differing + _PRIOR_GROUPS)
    return 1 / (weight / observed + (1 - weight) / least)


def finite(values: npt.ArrayLike) -> Floats:
    """Return values as a series of finite numbers.

    Raises:
        InputError: They are not finite numbers.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected a series of numbers: {error}.") from None
    if numbers.ndim != 1 or not len(numbers):
        raise InputError(f"Expected a series of values; got an array of shape {numbers.shape}.")
    undefined = int((~np.isfinite(numbers)).sum())
    if undefined:
        raise InputError(
            f"{undefined} of {len(numbers)} values are not finite numbers; leave such items out, "
            f"and say how many."
        )
    return numbers


def paired(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return two series of the same items as finite numbers.

    Raises:
        InputError: Other lengths, no items, or values that are not finite.
    """
    first, second = finite(before), finite(after)
    if len(first) != len(second):
        raise InputError(
            f"Paired values need two series of the same items; these have {len(first)} and "
            f"{len(second)}."
        )
    return first, second


def step_of(totals: GroupTotals, *series: Floats) -> float:
    """Return by how much items change that change, for score intervals; 0 where they don't apply.

    Items that are 0 or 1 move by 1, even if only one of these occurs; items of two other values
    that are not both between them, by their distance. Of graded values, a few small changes don't
    show that there are no larger ones: if fewer than :data:`FEW_GROUPS` groups differ, and fewer
    than half, or all by the same, items count as if each changed by the range of the values, which
    is 1 if they lie between 0 and 1.

    Args:
        totals: What the interval is of, in which a group that does not differ has a sum of 0.
        series: The values that items have.
    """
    values = np.unique(np.concatenate(series))
    lowest, highest = float(values[0]), float(values[-1])
    bounded = lowest >= 0 and highest <= 1
    reach = 1.0 if bounded else highest - lowest
    if np.isin(values, (0, 1)).all() or (len(values) == 2 and not bounded):
        return reach
    differing = int((totals.sums != 0).sum())
    few = differing < min(FEW_GROUPS, totals.groups / 2)
    return reach if few or not totals.standard_error > 0 else 0.0


def _mean(values: Floats, groups: Sequence[Hashable] | None, level: float) -> Interval:
    """Return a mean with its interval, by what the values are."""
    if np.isin(values, (0, 1)).all():
        found = GroupTotals.of(values, groups).interval(level, step=1.0)
        return Interval(found.mean, *_clipped(found))
    if np.isin(values, (-1, 0, 1)).all():
        return GroupTotals.of(values, groups).difference_interval(level, step=1.0)
    distinct, counts = np.unique(values, return_counts=True)
    common, lowest, highest = (float(v) for v in (distinct[counts.argmax()], *distinct[[0, -1]]))
    totals = GroupTotals.of(values - common, groups)
    step = step_of(totals, values)
    bounded = lowest >= 0 and highest <= 1
    # Of two values, all that differ from the common one differ in one direction.
    two = len(distinct) == 2 and not bounded
    found = (totals.interval if two else totals.difference_interval)(level, step=step)
    moved = Interval(common + found.mean, common + found.low, common + found.high)
    if bounded and step:
        return Interval(moved.mean, *_clipped(moved))
    if two and len(values) >= FEW_GROUPS:
        return Interval(moved.mean, *_clipped(moved, lowest, highest))
    return moved


def _clipped(found: Interval, lowest: float = 0.0, highest: float = 1.0) -> tuple[float, float]:
    """Return the ends within bounds; those of a single group are ``nan``."""
    low, high = np.clip([found.low, found.high], lowest, highest)
    return float(low), float(high)

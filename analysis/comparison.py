"""Two models compared on the same items: paired differences, tests and power.

Items of one group (the answers to one question, the sentences of one context) stand or fall
together, so groups are resampled, never single items.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lm_eval_trust.analysis.statistics import Interval, percentile_ends, resampled_means
from lm_eval_trust.core.errors import InputError

RESAMPLES = 5000
MCNEMAR = "McNemar"
BOOTSTRAP = "paired bootstrap"
_TIE = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items.

    Attributes:
        difference: Second minus first, with its interval.
        p: Two-sided, of the hypothesis that there is no difference.
        test: ``McNemar`` or ``paired bootstrap``.
        items: How many.
        groups: How many groups of them.
    """

    difference: Interval
    p: float
    test: str
    items: int
    groups: int


@dataclass(frozen=True)
class PairedDifferences:
    """Second minus first on each item, summed by group.

    Attributes:
        sums: Sum of each group's differences, float64, shape (groups,).
        sizes: Items of each group, shape (groups,).
    """

    sums: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        before: npt.ArrayLike,
        after: npt.ArrayLike,
        groups: Sequence[Hashable] | None = None,
    ) -> PairedDifferences:
        """Pair two series of the same items.

        Args:
            before: The first model's value of each item, shape (n,).
            after: The second's, in the same order.
            groups: Group of each item; by default every item is one of its own.

        Raises:
            InputError: Other lengths, no items, or values that are not finite.
        """
        first, second = (np.asarray(values, dtype=np.float64) for values in (before, after))
        if first.ndim != 1 or first.shape != second.shape or not len(first):
            raise InputError(
                f"Paired values need two series of the same items; these have the shapes "
                f"{first.shape} and {second.shape}."
            )
        if groups is not None and len(groups) != len(first):
            raise InputError(f"{len(groups)} groups were given for {len(first)} items.")
        differences = second - first
        if not np.isfinite(differences).all():
            raise InputError("Paired values have to be finite numbers; some are not.")
        if groups is None:
            return cls(differences, np.ones(len(first), dtype=np.int64))
        index = np.unique([str(group) for group in groups], return_inverse=True)[1]
        sums = np.bincount(index, weights=differences).astype(np.float64)
        return cls(sums, np.bincount(index))

    @property
    def mean(self) -> float:
        """Mean difference of an item."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def standard_error(self) -> float:
        """Of the mean, by the delta method for a ratio of group sums to group sizes."""
        n = len(self.sums)
        if n < 2:
            return math.nan
        residuals = self.sums - self.mean * self.sizes
        return float(np.sqrt(n / (n - 1) * np.square(residuals).sum()) / self.sizes.sum())

    def resampled(self, seed: int = 0, resamples: int = RESAMPLES) -> npt.NDArray[np.float64]:
        """Return means of groups drawn with replacement, shape (resamples,)."""
        return resampled_means(self.sums, self.sizes, resamples, np.random.default_rng(seed))

    def interval(self, confidence: float = 0.95, *, seed: int = 0) -> Interval:
        """Return the mean with its two-sided percentile interval over groups."""
        return Interval(self.mean, *percentile_ends(self.resampled(seed), confidence))


def compare(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same items.

    Yes-or-no metrics of independent items take the exact McNemar test (McNemar 1947): under no
    difference, each item that only one of the two gets right is either's with one half. Everything
    else takes the bootstrap over groups.

    Args:
        before: The first model's value of each item, shape (n,).
        after: The second's, in the same order.
        groups: Group of each item; by default every item is one of its own.
        confidence: Of the two-sided interval.
        seed: Of the bootstrap.

    Raises:
        InputError: As :meth:`PairedDifferences.of`.
    """
    paired = PairedDifferences.of(before, after, groups)
    interval = paired.interval(confidence, seed=seed)
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    if binary and (paired.sizes == 1).all():
        p, test = mcnemar(int((second > first).sum()), int((first > second).sum())), MCNEMAR
    else:
        p = bootstrap_p(paired.resampled(seed), paired.mean, len(paired.sums))
        test = BOOTSTRAP
    return Comparison(interval, p, test, len(first), len(paired.sums))


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p of the items that only one of two models gets right."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def bootstrap_p(drawn: npt.NDArray[np.float64], mean: float, groups: int) -> float:
    """Return the share of resampled means that deviate as much as the observed one does from zero.

    (Efron and Tibshirani 1993, chapter 16.) No p is below 2 / 2^groups, the chance that as many
    fair coins fall alike: a few groups that all change by the same amount have no spread to
    resample, and would seem certain.

    Args:
        drawn: Means of resampled groups, shape (resamples,).
        mean: The observed one.
        groups: How many groups were drawn from.
    """
    beyond = int((np.abs(drawn - mean) >= abs(mean) - _TIE).sum())
    return float(max((1 + beyond) / (1 + len(drawn)), 2.0 ** (1 - groups)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for as many tests, by the step-down method of Holm (1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = running
    return adjusted


def detectable_difference(standard_error: float, *, confidence: float, power: float) -> float:
    """Return the smallest true difference that a one-sided test shows with the given power.

    (z_confidence + z_power) times the standard error of the paired mean: the normal approximation.

    Args:
        standard_error: Of the mean of the paired differences.
        confidence: Of the one-sided test.
        power: How often the difference is to be shown, below 1.
    """
    return float((stats.norm.ppf(confidence) + stats.norm.ppf(power)) * standard_error)


def power_to_show(difference: float, standard_error: float, *, confidence: float) -> float:
    """Return the power of a one-sided test to show a true difference of this size, 0 to 1."""
    if standard_error == 0:
        return 1.0 if difference > 0 else 0.0
    return float(stats.norm.cdf(difference / standard_error - stats.norm.ppf(confidence)))

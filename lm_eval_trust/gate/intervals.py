"""Confidence intervals that hold on few items: what the verdicts of a check rest on.

Items come in groups that stand or fall together; a mean over items is a ratio of sums over groups.
Its interval is Student's over groups, with the standard error of the delta method. Where a metric
moves in steps (right or wrong), a mean that differs from the observed one cannot be had without
items that differ, so no hypothetical mean is tested with less variance than it implies. That is
Wilson's score interval (1927), and the one of Tango (1998) where the two models agree on all items:
there, and where all items change alike, the plain standard error is zero and would claim certainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.comparison import PairedDifferences
from lm_eval_trust.analysis.statistics import Interval


@dataclass(frozen=True)
class Contrast:
    """What is tested: a mean over items, and how it can change.

    Attributes:
        sums: Group sums and sizes (items, or words).
        step: Smallest amount by which one item can differ; 0 where it can differ by any.
        reach: Largest amount by which one item is expected to differ.
        agreement: The mean where no item differs.
    """

    sums: PairedDifferences
    step: float = 0.0
    reach: float = 0.0
    agreement: float = 0.0

    @property
    def mean(self) -> float:
        """The estimate."""
        return self.sums.mean

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.sums.sums)

    @property
    def standard_error(self) -> float:
        """Of the mean; infinite for a single group, which tells nothing of others."""
        return self.sums.standard_error if self.groups > 1 else math.inf

    @property
    def effective_items(self) -> float:
        """Items that would weigh as much if those of a group always changed together (Kish)."""
        sizes = self.sums.sizes.astype(np.float64)
        return float(sizes.sum() ** 2 / np.square(sizes).sum())

    def quantile(self, probability: float) -> float:
        """Return Student's quantile for so many groups."""
        return float(special.stdtrit(max(self.groups - 1, 1), probability))

    def interval(self, confidence: float) -> Interval:
        """Return the mean with its two-sided interval."""
        quantile = self.quantile((1 + confidence) / 2)
        half = quantile * self.standard_error
        change = self.mean - self.agreement
        ends = [self.mean - half, self.mean + half]
        for sign in (-1, 1):
            ends += [self.agreement + sign * x for x in self._changes(sign * change, quantile)]
        return Interval(self.mean, min(ends), max(ends))

    def _changes(self, change: float, quantile: float) -> tuple[float, float]:
        """Return the smallest and the largest change that the variance of its steps allows.

        They solve (x − change)² = quantile² (step·x − x²) / items for x ≥ 0; where there are no
        such changes, both are the observed one.
        """
        share = quantile**2 / self.effective_items
        middle = 2 * change + share * self.step
        root = middle**2 - 4 * (1 + share) * change**2
        if root < 0 or middle <= 0:
            return change, change
        apart, twice = math.sqrt(root), 2 * (1 + share)
        return (middle - apart) / twice, (middle + apart) / twice


def steps_of(*series: npt.ArrayLike) -> tuple[float, float]:
    """Return the smallest and the largest amount by which an item of a metric can differ.

    Yes-or-no metrics move by 1, also where all items happen to be right. Others move by the
    smallest gap between values that occur; the largest is the distance of the farthest ones.
    """
    values = np.unique(np.concatenate([np.asarray(each, dtype=np.float64) for each in series]))
    if np.isin(values, (0.0, 1.0)).all():
        return 1.0, 1.0
    if len(values) < 2:
        return 0.0, 0.0
    return float(np.diff(values).min()), float(values[-1] - values[0])

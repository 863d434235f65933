"""Intervals, and the bootstrap over groups that all of them share.

Items of one group (the answers to one question, the sentences of one context) stand or fall
together, so groups are resampled, never single items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Draws held in memory at once: some thousands of resamples of a few thousand groups.
_AT_ONCE = 20_000_000


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

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def resample_counts(
    groups: int, resamples: int, random: np.random.Generator, *, multinomial: bool = False
) -> Iterator[Floats]:
    """Draw groups with replacement, as many as there are, and count how often each was drawn.

    Args:
        groups: How many groups there are.
        resamples: How many times to draw.
        random: Source of the draws; the sizes of the blocks do not change what it gives.
        multinomial: Whether a resample's counts are drawn at once instead of group by group. The
            distribution is the same, the stream of random numbers is not.

    Yields:
        Blocks of counts, shape (rows, groups); the rows of all blocks add up to ``resamples``.
    """
    step = max(1, _AT_ONCE // groups)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        if multinomial:
            counts = random.multinomial(groups, np.full(groups, 1 / groups), size=rows)
        else:
            drawn = random.integers(groups, size=(rows, groups))
            drawn += groups * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        yield counts.astype(np.float64)


def resampled_means(
    sums: npt.ArrayLike, sizes: npt.ArrayLike, resamples: int, random: np.random.Generator
) -> Floats:
    """Return means over items of groups drawn with replacement.

    Args:
        sums: Sum over each group's items, shape (groups,), or (groups, series) for several series
            that share the draws.
        sizes: Items of each group, shape (groups,).
        resamples: How many times to draw.
        random: Source of the draws.

    Returns:
        Shape (resamples,) or (resamples, series).
    """
    totals = np.asarray(sums, dtype=np.float64)
    items = np.asarray(sizes, dtype=np.float64)
    means: Floats = np.concatenate(
        [
            ((counts @ totals).T / (counts @ items)).T
            for counts in resample_counts(len(items), resamples, random)
        ]
    )
    return means


def percentile_ends(drawn: Floats, confidence: float) -> tuple[float, float]:
    """Return the two-sided percentile interval of resampled values, shape (resamples,)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)

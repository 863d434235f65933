"""The bootstrap-t over groups (Efron and Tibshirani 1993, chapter 12), and its expansion."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

#: Resamples, at least. Those of few groups are coarse, so there are more, for the same time.
_RESAMPLES, _DRAWS = 1000, 40_000
#: Draws say little of smaller tails, so there they do not stand alone.
FAR_TAIL = 0.0025
#: Groups whose draws are kept. Those of more are made anew, and only where the expansion is
#: inaccurate: where the skewness, divided by the root of their number, exceeds this.
_KEPT, _SKEWED = 1000, 0.1


def student_quantiles(
    residuals: Floats, sizes: Floats, tail: float, quantile: float
) -> list[float]:
    """Return lower and upper quantiles of Student's statistic of a mean over groups.

    They are those of the draws, or those of the first-order expansion (Johnson 1978), or both in
    tails of which draws say little.

    Args:
        residuals: Each group's sum beyond what the mean expects of it, not all 0, skewed to the
            right if at all, shape (groups,).
        sizes: Items of each group, shape (groups,).
        tail: Share beyond each of both quantiles.
        quantile: Student's upper one, which allows for groups of unequal sizes.
    """
    groups, found = len(residuals), []
    skewness = float((residuals**3).mean() / (residuals**2).mean() ** 1.5)
    expanded = groups > _KEPT and skewness <= _SKEWED * math.sqrt(groups)
    if not expanded:
        ends = np.quantile(_drawn(residuals, sizes), (tail, 1 - tail), method="inverted_cdf")
        # Unequal groups widen these quantiles as they widen Student's.
        found += (quantile / float(special.stdtrit(groups - 1, 1 - tail)) * ends).tolist()
    if expanded or tail < FAR_TAIL:
        shift = skewness * (1 + 2 * quantile**2) / (6 * math.sqrt(groups))
        found += [-quantile - shift, quantile - shift]
    return found


def _drawn(residuals: Floats, sizes: Floats) -> Floats:
    """Return the studentised deviations of resampled means, shape (resamples,)."""
    order, groups = np.lexsort((sizes, residuals)), len(residuals)
    beyond, sizes = residuals[order], sizes[order]
    less = 1 - sizes / sizes.sum()
    u, v = beyond / less, sizes / less
    columns = np.stack([beyond, sizes, u * u, u * v, v * v], axis=1)
    total, size, uu, uv, vv = _resampled(columns).T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / size
        spread = uu - 2 * mean * uv + mean * mean * vv
        # A draw of one group alone has no spread; its terms cancel up to rounding.
        spread[spread < 1e-12 * (uu + mean * mean * vv)] = 0.0
        error = np.sqrt((groups - 1) / groups * spread) / size
        drawn: Floats = np.nan_to_num(mean / error, nan=0.0, posinf=np.inf, neginf=-np.inf)
    # Draws without spread are beyond all others, but they do not say by how much.
    reached = drawn[np.isfinite(drawn)]
    return np.clip(drawn, reached.min(), reached.max())


def _resampled(columns: Floats) -> Floats:
    """Return the sums of columns, shape (groups, columns), over resampled groups."""
    groups = len(columns)
    if groups <= _KEPT:
        kept: Floats = _counts(groups) @ columns
        return kept
    random = np.random.default_rng(groups)
    return np.stack(
        [
            np.bincount(random.integers(groups, size=groups), minlength=groups) @ columns
            for _ in range(_resamples(groups))
        ]
    )


@lru_cache(maxsize=8)
def _counts(groups: int) -> Floats:
    """Return how often each group was drawn in each resample, shape (resamples, groups)."""
    resamples = _resamples(groups)
    drawn = np.random.default_rng(groups).integers(groups, size=(resamples, groups))
    drawn += groups * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * groups)
    return counts.reshape(resamples, groups).astype(np.float64)


def _resamples(groups: int) -> int:
    """Return how often so many groups are resampled."""
    return max(_RESAMPLES, _DRAWS // groups)

"""Score tests of shares and of their differences, which the intervals of both invert."""

from __future__ import annotations

import math


def wilson_ends(share: float, items: float, quantile: float) -> tuple[float, float]:
    """Return the ends of Wilson's score interval (1927) of a share.

    Args:
        share: From 0 to 1.
        items: Number of independent items, or an effective number.
        quantile: Quantile of the normal distribution, or of Student's.
    """
    square = quantile**2 / items
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def score_variance(tested: float, share: float, mean: float) -> float:
    """Return the variance of differences of yes-or-no items if their mean were another.

    The share of items that differ is the likeliest under the tested mean (Tango 1998, equation 3).

    Args:
        tested: Mean under which the variance is asked for, −1 to 1.
        share: Observed share of items that differ.
        mean: Observed mean.
    """
    middle = share + mean * tested
    root = middle**2 - 4 * (mean * tested - (1 - share) * tested**2)
    return (middle + math.sqrt(max(root, 0.0))) / 2 - tested**2

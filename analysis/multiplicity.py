"""Corrected p-values: over layers by a maximum, over steps and dimensions by families."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_eval_trust.analysis.nulls import Null
from lm_eval_trust.core.errors import InputError


def max_statistic(nulls: Sequence[Null]) -> list[float]:
    """Return p corrected for several statistics with the same permutations, one for each.

    The single-step maximum of Westfall and Young (1993, section 2.5): each null is brought to mean
    0 and variance 1, and each value is held against the largest of all statistics in each
    permutation. It controls the chance of any false finding, and takes their correlation (nearby
    layers are nearly one) into account.

    Args:
        nulls: Measured with one design, seed and number of permutations; NaN without a null.

    Raises:
        InputError: Their permutations differ in number.
    """
    numbers = {null.permutations for null in nulls}
    if len(numbers) > 1:
        raise InputError(f"Nulls of {sorted(numbers)} permutations do not share them.")
    if not numbers or numbers == {0}:
        return [null.p for null in nulls]
    # The observed arrangement is one of those that the null consists of, and is scaled with them.
    values = np.array([[null.value, *null.drawn] for null in nulls])
    spread = values.std(axis=1, keepdims=True)
    scaled = values - values.mean(axis=1, keepdims=True)
    scaled = np.divide(scaled, spread, out=np.zeros_like(scaled), where=spread > 0)
    reached = (scaled.max(axis=0) >= scaled[:, :1] - 1e-9).mean(axis=1)
    return [max(null.smallest_p, float(p)) for null, p in zip(nulls, reached, strict=True)]


def corrected_by_families(families: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return p-values corrected for many families, for those inside of which they are already.

    Benjamini and Bogomolov (2014, *JRSS B* 76, 297–318): families are selected by the procedure of
    Benjamini and Hochberg on their smallest p, and of m families with R selected, p ≤ q R / m is a
    finding in a selected one. At level q, the share of selected families with a false finding is
    at most q on average. Families of one p get the values of Benjamini and Hochberg.

    Args:
        families: p-values of each family, which bound the chance of any false finding in it (as
            :func:`max_statistic` does over the layers of a checkpoint); NaN is left out.

    Returns:
        The smallest q at which each is a finding, at most 1; NaN stays.
    """
    found = [np.asarray(family, dtype=np.float64) for family in families]
    smallest = np.sort([np.nanmin(f) for f in found if not np.isnan(f).all()])
    m = len(smallest)
    corrected = []
    for family in found:
        # With k families selected, q has to reach both the k-th smallest and the p itself.
        needed = np.maximum(family[:, None], smallest) * m / np.arange(1, m + 1)
        least = needed.min(axis=1) if m else np.full(len(family), np.nan)
        corrected.append([float(q) for q in np.minimum(least, 1.0)])
    return corrected

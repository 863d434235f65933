"""Corrected p-values: over layers by a maximum, over steps and dimensions by families.

:func:`beyond_reference` compares many values with the same few reference ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from lm_eval_trust.analysis.nulls import Null
from lm_eval_trust.analysis.statistics import Floats
from lm_eval_trust.core.errors import InputError

#: Panels that are drawn for the largest statistic.
DRAWS = 5000
#: Of them in memory at once.
_AT_ONCE = 250
#: Reference rows that a spread needs.
LEAST_REFERENCE = 3


def max_statistic(nulls: Sequence[Null]) -> list[float]:
    """Return p corrected for several statistics with the same permutations, one for each.

    The single-step maximum of Westfall and Young (1993, section 2.5): each null is brought to mean
    0 and variance 1, and each value is compared with the largest of all statistics in each
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
        needed = np.maximum(family[:, None], smallest) * (m / np.arange(1, m + 1))
        least = needed.min(axis=1) if m else np.full(len(family), np.nan)
        # Rounding must not lift a p of exactly .05 above it.
        corrected.append([float(f"{q:.12g}") for q in np.minimum(least, 1.0)])
    return corrected


def beyond_reference(
    values: Floats, reference: Floats, *, step: float = 0.0, draws: int = DRAWS
) -> Floats:
    """Return one-sided p of values against reference ones, corrected for their number.

    If a row of values is one more reference row, t = (v - mean) / (s sqrt(1 + 1/K)) of each value
    against the K reference values of its column is Student's. All values are compared with the same
    rows, whose luck they share, and the columns of a row resemble each other, so counting
    the values would correct too much (Dunnett 1955 for one column). The p of the largest t is the
    share of drawn panels whose largest t is as large; of the next, that of the largest of the
    others; and so on, never falling (Westfall and Young 1993, algorithm 2.8). The panels' rows are
    normal, with the correlation of the columns that the reference rows have.

    Scores move in steps, and reference values that hardly ever do have too small a spread, or none
    at all; s is at least one step.

    Args:
        values: Shape (rows, columns); NaN where nothing was measured.
        reference: Shape (reference rows, columns); NaN in the same way.
        step: The least by which a value can move.
        draws: Number of panels.

    Returns:
        p, shape (rows, columns); NaN if there is no value, or fewer than three reference ones.
    """
    there = np.isfinite(reference)
    number = there.sum(axis=0)
    found = np.full(values.shape, np.nan)
    enough = number >= LEAST_REFERENCE
    if not values.size or not enough.any():
        return found
    values, there, number = values[:, enough], there[:, enough], number[enough]
    known = np.where(there, reference[:, enough], 0.0)
    centred = np.where(there, known - known.sum(axis=0) / number, 0.0)
    length = np.sqrt(np.square(centred).sum(axis=0))
    spread = np.maximum(length / np.sqrt(number - 1), step)
    scale = np.where(spread > 0, spread, 1.0) * np.sqrt(1 + 1 / number)
    asked = np.isfinite(values)
    above = np.where(asked, values, -np.inf) - known.sum(axis=0) / number
    t = np.where(spread > 0, above / scale, np.where(above > 0, np.inf, -np.inf))
    order = np.argsort(-t, axis=None, kind="stable")
    beyond = np.zeros(t.size)
    # Columns without a spread have an axis of their own.
    flat = length == 0
    axes = np.concatenate([centred / np.where(flat, 1.0, length), np.diag(flat.astype(float))])
    random = np.random.default_rng(0)
    for start in range(0, draws, _AT_ONCE):
        shape = (min(_AT_ONCE, draws - start), len(values) + len(there), len(axes))
        drawn = _against_reference(random.standard_normal(shape) @ axes, there, number)
        drawn = np.where(asked, drawn, -np.inf).reshape(shape[0], -1)[:, order]
        maxima = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        beyond += (maxima >= t.ravel()[order]).sum(axis=0)
    corrected = np.empty(t.size)
    corrected[order] = np.maximum.accumulate((1 + beyond) / (1 + draws))
    # Never below its own p, which is exact where the drawn one is not.
    p = np.maximum(corrected.reshape(t.shape), special.stdtr(number - 1, -t))
    found[:, enough] = np.where(asked, p, np.nan)
    return found


def _against_reference(drawn: Floats, there: Floats, number: Floats) -> Floats:
    """Return t of all rows but the last ones, the reference rows, (panels, rows, columns)."""
    rows, reference = drawn[:, : -len(there)], np.where(there, drawn[:, -len(there) :], 0.0)
    mean = reference.sum(axis=1, keepdims=True) / number
    squares = np.square(np.where(there, reference - mean, 0.0)).sum(axis=1, keepdims=True)
    scale = np.sqrt(squares * (1 + 1 / number) / (number - 1))
    found: Floats = (rows - mean) / scale
    return found

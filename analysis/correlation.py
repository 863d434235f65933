"""Correlations over checkpoints: do probes predict benchmarks? (arXiv 2402.19465, Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lm_eval_trust.core.errors import InputError


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient.

    Attributes:
        value: −1 to 1.
        low: Lower end of its 95 % interval, by bootstrap over checkpoints.
        high: Upper end.
        p: Of a two-sided permutation test.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Correlation:
    """The correlation of two series over checkpoints.

    Attributes:
        pearson: Linear correlation.
        spearman: Correlation of ranks.
        n: Number of checkpoints.
    """

    pearson: Coefficient
    spearman: Coefficient
    n: int


def correlate(
    x: npt.ArrayLike, y: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> Correlation:
    """Return both correlations of paired series.

    Args:
        x: One value for each checkpoint, shape (k,).
        y: Likewise.
        resamples: Of the bootstrap and of the permutation test.
        seed: Of both.

    Raises:
        InputError: Shapes that differ, fewer than four checkpoints, values that are not finite, or
            a constant series.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"Expected two series of one length, got {first.shape}, {second.shape}.")
    if len(first) < 4:
        raise InputError(
            f"A correlation over {len(first)} checkpoints says nothing; give at least 4."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("Correlated values must be finite.")
    for name, values in (("x", first), ("y", second)):
        if np.ptp(values) == 0:
            raise InputError(f"{name} is the same at all checkpoints: no correlation is defined.")
    ranks = stats.rankdata(first), stats.rankdata(second)
    return Correlation(
        pearson=_coefficient(first, second, False, resamples, seed),
        spearman=_coefficient(*ranks, True, resamples, seed),
        n=len(first),
    )


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for many tests, controlling the false discovery rate.

    Raises:
        InputError: A value outside 0 to 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("p values must lie between 0 and 1.")
    return [float(p) for p in stats.false_discovery_control(values)] if len(values) else []


def _coefficient(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    ranked: bool,
    resamples: int,
    seed: int,
) -> Coefficient:
    random = np.random.default_rng(seed)
    value = float(_pearson(x[None], y[None])[0])
    rows = random.integers(len(x), size=(resamples, len(x)))
    drawn_x, drawn_y = x[rows], y[rows]
    if ranked:
        drawn_x, drawn_y = stats.rankdata(drawn_x, axis=1), stats.rankdata(drawn_y, axis=1)
    drawn = _pearson(drawn_x, drawn_y)
    # A resample that repeats one checkpoint has no correlation (NaN).
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    permuted = random.permuted(np.tile(y, (resamples, 1)), axis=1)
    null = np.abs(_pearson(np.tile(x, (resamples, 1)), permuted))
    reached = int((null >= abs(value) - 1e-12).sum())
    return Coefficient(value, float(low), float(high), (1 + reached) / (1 + resamples))


def _pearson(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    lengths = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    products = (a * b).sum(axis=1)
    found: npt.NDArray[np.float64] = np.divide(
        products, lengths, out=np.full(len(products), np.nan), where=lengths > 0
    )
    return found

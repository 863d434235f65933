"""The permutation null of a dependence measure, for all shifts of the samples at once.

For symmetric centred matrices A and B, the null of tr(A B) under permutations of the samples needs
Σ A_ij B_π(i)π(j) for many π. The permutations used here are the shifts along one random order of
the samples. They form a group, so the test has exactly its level; and all their sums together are a
correlation along the matrices' diagonals, which the Fourier transform computes in O(n² log n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from lm_eval_trust.core.errors import InputError

PERMUTATIONS = 200


@dataclass(frozen=True)
class Null:
    """A statistic beside its permutation null.

    Attributes:
        value: The statistic.
        mean: Of the null.
        quantile95: Of the null.
        p: Share of permutations, including the identity, that reach the value.
        permutations: Number used, without the identity.
    """

    value: float
    mean: float
    quantile95: float
    p: float
    permutations: int

    def scaled(self, factor: float) -> Null:
        """Return the statistic and its null times a positive number; p stays."""
        return replace(
            self,
            value=self.value * factor,
            mean=self.mean * factor,
            quantile95=self.quantile95 * factor,
        )


def without_null(value: float) -> Null:
    """Return a statistic whose null was not computed: NaN, over 0 permutations."""
    return Null(value, math.nan, math.nan, math.nan, 0)


def permutation_null(
    a: torch.Tensor, b: torch.Tensor, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Return tr(A B) and its null under permutations of one side's samples.

    Args:
        a: Symmetric, shape (n, n).
        b: Likewise.
        permutations: How many of the n − 1 shifts to use.
        seed: Of the order of the samples and the choice of shifts.

    Raises:
        InputError: The shapes differ from these, or there are fewer than three samples.
    """
    n = len(a)
    if a.shape != (n, n) or b.shape != (n, n):
        raise InputError(f"Expected two square matrices of one size: {a.shape}, {b.shape}.")
    if n < 3:
        raise InputError(f"A null needs at least 3 samples, not {n}.")
    random = np.random.default_rng(seed)
    order = torch.from_numpy(random.permutation(n)).to(a.device)
    sums = _shifted_traces(a[order][:, order], b[order][:, order]).cpu().numpy()
    shifts = 1 + random.permutation(n - 1)[:permutations]
    null, value = sums[shifts], float((a * b).sum(dtype=torch.float64))
    # Equal up to the transform's rounding counts as reached.
    reached = null >= value - 1e-9 * max(abs(value), float(np.abs(null).max()))
    return Null(
        value=value,
        mean=float(null.mean()),
        quantile95=float(np.quantile(null, 0.95)),
        p=float((1 + reached.sum()) / (1 + len(null))),
        permutations=len(null),
    )


def _shifted_traces(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Σ_ij A_ij B_{i+s, j+s} for every shift s, float64, shape (n,)."""
    n = len(a)
    # In a symmetric matrix, the diagonals k and n − k hold the same pairs.
    half = torch.arange(n // 2 + 1, device=a.device)
    weights = torch.full((len(half),), 2.0, dtype=torch.float64, device=a.device)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    places = torch.arange(n, device=a.device)
    columns = (places[None, :] + half[:, None]) % n
    first = torch.fft.rfft(a[places, columns])
    second = torch.fft.rfft(b[places, columns])
    spectrum = (first.conj() * second * weights[:, None].to(first.dtype)).sum(dim=0)
    sums: torch.Tensor = torch.fft.irfft(spectrum.to(torch.complex128), n=n)
    return sums

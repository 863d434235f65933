"""nHSIC for more samples than a kernel matrix can hold, with the error stated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lm_eval_trust.analysis.hsic import EPSILON, SIGMA, Samples
from lm_eval_trust.analysis.kernels import as_samples, require_equal_n
from lm_eval_trust.core.errors import InputError


@dataclass(frozen=True)
class NystromResult:
    """An approximation and how far it may be off.

    Attributes:
        value: nHSIC of the approximated kernels; never above the exact value by more than
            rounding, since what is left out is positive.
        missing: Largest share of a centred kernel's trace that the landmarks leave out, over
            both sides; 0 where the approximation is exact.
        landmarks: Samples that the kernels are spanned by.
    """

    value: float
    missing: float
    landmarks: int


def nhsic_nystrom(
    x: Samples,
    y: Samples,
    sigma: float = SIGMA,
    epsilon: float = EPSILON,
    *,
    landmarks: int = 500,
    seed: int = 0,
) -> NystromResult:
    """Return nHSIC with kernels spanned by randomly chosen samples (Williams and Seeger 2001).

    Memory is O(n · landmarks). See :func:`lm_eval_trust.analysis.hsic.nhsic`.

    Args:
        x: Samples, shape (n, d) or (n,).
        y: Paired samples, likewise.
        sigma: Width of both kernels.
        epsilon: Ridge, times n.
        landmarks: How many samples span the kernels, at most n.
        seed: Of their choice.

    Raises:
        InputError: As :func:`lm_eval_trust.analysis.hsic.nhsic`, or no landmark.
    """
    first, second = as_samples(x, name="x"), as_samples(y, name="y")
    require_equal_n(first, second)
    if landmarks < 1:
        raise InputError(f"landmarks is {landmarks}; at least 1 is needed.")
    chosen = np.random.default_rng(seed).permutation(len(first))[:landmarks]
    rows = torch.from_numpy(np.sort(chosen))
    sides = [_features(samples, rows, sigma) for samples in (first, second)]
    ridge = epsilon * len(first)
    smoothed = []
    for features, _ in sides:
        gram = features.T @ features
        gram.diagonal().add_(ridge)
        factor = torch.linalg.cholesky(gram)
        # S = F (FᵀF + c I)⁻¹ Fᵀ = W Wᵀ with W = F L⁻ᵀ.
        smoothed.append(torch.linalg.solve_triangular(factor, features.T, upper=False).T)
    one, other = smoothed
    return NystromResult(
        value=float((one.T @ other).square().sum()),
        missing=max(missing for _, missing in sides),
        landmarks=len(rows),
    )


def _features(x: torch.Tensor, rows: torch.Tensor, sigma: float) -> tuple[torch.Tensor, float]:
    """Return centred features F with F Fᵀ ≈ H K H, and the share of the trace left out."""
    scale = 2.0 * sigma**2 * x.shape[1]
    centred = x - x.mean(dim=0)
    distances = torch.cdist(centred, centred[rows]).square()
    kernel = torch.exp(-distances / scale)
    values, vectors = torch.linalg.eigh(kernel[rows])
    kept = values > 1e-12 * values[-1]
    features = kernel @ (vectors[:, kept] / values[kept].sqrt())
    left_out = (1.0 - features.square().sum(dim=1)).clamp_min(0.0).sum()
    features = features - features.mean(dim=0)
    whole = features.square().sum() + left_out
    return features, float(left_out / whole) if whole > 0 else 0.0

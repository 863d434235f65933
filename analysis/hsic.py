"""Dependence between representations, inputs and labels: HSIC, normalised HSIC, linear CKA.

Two estimators are called HSIC in the literature. ``hsic`` is equation 5 of arXiv 2402.19465.
``nhsic`` is what that paper's figures show: the CCA-like form of the HSIC bottleneck (Ma et al.
2020, arXiv 1908.01580). Neither has a fixed scale: compare values only at equal n and σ, and with
their null (:mod:`lm_eval_trust.analysis.nulls`).
"""

from __future__ import annotations

import numpy.typing as npt
import torch

from lm_eval_trust.analysis.kernels import (
    as_samples,
    gaussian_gram,
    require_equal_n,
    symmetric_product,
)
from lm_eval_trust.core.errors import InputError

Samples = npt.ArrayLike | torch.Tensor
#: σ of the paper's figures, and ridge of the normalisation in its released code.
SIGMA, EPSILON = 50.0, 1e-5


def hsic(x: Samples, y: Samples, sigma: float = SIGMA) -> float:
    """Return the biased estimator (n − 1)⁻² tr(K_X H K_Y H) with Gaussian kernels.

    arXiv 2402.19465, eq. 5; Gretton et al. 2005. K = exp(−‖x − x'‖² / (2 σ²)).

    Args:
        x: Samples, floats of shape (n, d) or (n,), NumPy or torch.
        y: Paired samples, of the same form.
        sigma: Width of both kernels.

    Raises:
        InputError: Unequal n, n < 2, values that are not finite, or σ not above 0.
    """
    first, second = _paired(x, y)
    trace = _inner(gaussian_gram(first, sigma), gaussian_gram(second, sigma))
    return trace / (len(first) - 1) ** 2


def nhsic(x: Samples, y: Samples, sigma: float = SIGMA, epsilon: float = EPSILON) -> float:
    """Return the normalised form tr(R_X R_Y), R = K H (K H + ε n I)⁻¹.

    Ma et al. 2020, as the release of arXiv 2402.19465 computes it, with the kernel
    exp(−‖x − x'‖² / (2 σ² d)). Since H is a projection, tr(R_X R_Y) = tr(S_X S_Y) with the
    symmetric S = I − ε n (H K H + ε n I)⁻¹: one Cholesky factorisation for each of the two.

    Args:
        x: Samples, floats of shape (n, d) or (n,), NumPy or torch.
        y: Paired samples, of the same form.
        sigma: Width of both kernels.
        epsilon: Ridge, multiplied by n.

    Raises:
        InputError: As :func:`hsic`, or ε not above 0.
    """
    first, second = _paired(x, y)
    grams = (gaussian_gram(s, sigma, by_dimension=True) for s in (first, second))
    one, other = (smoother(gram, epsilon) for gram in grams)
    return _inner(one, other)


def smoother(gram: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Return S = G (G + ε n I)⁻¹ of a centred kernel matrix G, which is overwritten.

    Args:
        gram: H K H, float32 or float64, shape (n, n).
        epsilon: Ridge, multiplied by n.

    Raises:
        InputError: ε is not above 0, or too small for the precision.
    """
    if not epsilon > 0:
        raise InputError(f"epsilon is {epsilon}; expected a number above 0.")
    ridge = epsilon * len(gram)
    gram.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed):
        raise InputError(f"epsilon {epsilon:g} is too small for kernels in {gram.dtype}.")
    inverse = torch.cholesky_inverse(factor)
    inverse.mul_(-ridge).diagonal().add_(1.0)
    return inverse


def linear_cka(x: Samples, y: Samples) -> float:
    """Return linear centred kernel alignment, 0 to 1 (Kornblith et al. 2019, eq. 4).

    Args:
        x: Samples, floats of shape (n, d) or (n,), NumPy or torch.
        y: Paired samples, of the same form; their number of features may differ.

    Raises:
        InputError: As for the samples of :func:`hsic`, or all samples of one side are equal.
    """
    first, second = _paired(x, y)
    if max(first.shape[1], second.shape[1]) < len(first):
        products = (first.T @ first, second.T @ second)
        cross = float((first.T @ second).square().sum())
    else:
        products = (symmetric_product(first, first), symmetric_product(second, second))
        cross = _inner(*products)
    lengths = [float(torch.linalg.norm(product)) for product in products]
    if min(lengths) == 0:
        raise InputError("All samples of one side are equal: their alignment is not defined.")
    return cross / (lengths[0] * lengths[1])


def _paired(x: Samples, y: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both samples, centred, on one device."""
    first, second = as_samples(x, name="x"), as_samples(y, name="y")
    require_equal_n(first, second)
    second = second.to(first.device)
    return first - first.mean(dim=0), second - second.mean(dim=0)


def _inner(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the trace of the product of two symmetric matrices, summed in float64."""
    return float((one * other).sum(dtype=torch.float64))

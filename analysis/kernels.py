"""Centred Gaussian kernel matrices, computed without cancellation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lm_eval_trust.core.errors import InputError

#: Precisions of the products of samples; everything else is float64.
PRECISIONS = {"float64": torch.float64, "mixed": torch.float32}
#: Rows of a symmetric product that are computed at once.
_BLOCK = 256
#: Features that are standardised at once.
_FEATURES = 64
#: Samples that the median heuristic uses, at most.
_MEDIAN_SAMPLES = 2000


def as_samples(
    values: npt.ArrayLike | torch.Tensor, *, name: str = "x", convert: bool = True
) -> torch.Tensor:
    """Return samples as a float64 tensor of shape (n, d), on their device.

    Args:
        values: Numbers of shape (n, d), or (n,) for single features; NumPy or torch.
        name: What to call them in errors.
        convert: ``False`` leaves tensors of a floating dtype as they are.

    Raises:
        InputError: Not numbers, another number of axes, fewer than two samples, no feature, or a
            value that is not finite.
    """
    tensor = values.detach() if isinstance(values, torch.Tensor) else _from_numpy(values, name)
    if convert or not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.ndim == 1:
        tensor = tensor[:, None]
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise InputError(f"{name} has the shape {tuple(tensor.shape)}; expected (n, d) or (n,).")
    if tensor.shape[0] < 2:
        raise InputError(f"{name} holds {tensor.shape[0]} sample(s); at least 2 are needed.")
    # A sum is finite only if its terms are; it may overflow where they are.
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        raise InputError(f"{name} holds values that are not finite.")
    return tensor


def require_equal_n(x: torch.Tensor, y: torch.Tensor) -> None:
    """Raise if samples are not paired."""
    if len(x) != len(y):
        raise InputError(f"x holds {len(x)} samples and y {len(y)}; expected as many of each.")


def standardise(x: torch.Tensor, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return features of mean 0 and variance 1, in a dtype; constant features become 0."""
    scaled = torch.empty(x.shape, dtype=dtype, device=x.device)
    # What is in the cache is read several times at the price of once.
    for features, out in zip(
        torch.split(x, _FEATURES, 1), torch.split(scaled, _FEATURES, 1), strict=True
    ):
        mean = features.mean(dim=0, dtype=torch.float64)
        centred = features - mean
        deviation = torch.linalg.vector_norm(centred, dim=0) / len(x) ** 0.5
        # Rounding errors of a constant feature must not be scaled up to noise.
        varies = deviation > 1e-12 * mean.abs()
        out.copy_(centred.mul_(torch.where(varies, 1.0 / deviation, 0.0)))
    return scaled


def squared_distances(x: torch.Tensor, *, precision: str = "float64") -> torch.Tensor:
    """Return all squared Euclidean distances, shape (n, n)."""
    distances = _scaled_distances(x - x.mean(dim=0), 1.0, precision)
    return distances.clamp_(min=0.0).fill_diagonal_(0.0)


def _scaled_distances(x: torch.Tensor, factor: float, precision: str) -> torch.Tensor:
    """Return squared distances times a factor, float64; rounding may make small ones negative.

    ‖a‖² + ‖b‖² − 2 a·b of centred samples, whose products are small.
    """
    x = x.to(PRECISIONS[precision])
    lengths = torch.cat(
        [rows.to(torch.float64).square().sum(dim=1) for rows in torch.split(x, _BLOCK)]
    )
    product = symmetric_product(x, x).to(torch.float64).mul_(-2.0 * factor)
    return product.add_(lengths.mul_(factor)).add_(lengths[:, None])


def symmetric_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return ``left @ right.T`` where it is symmetric, shape (n, n); half of it is computed.

    Args:
        left: Shape (n, d).
        right: The same.
    """
    n = len(left)
    product = left.new_empty(n, n)
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        product[start:end, :end] = left[start:end] @ right[:end].T
        product[:start, start:end] = product[start:end, :start].T
    return product


def gaussian_gram(
    x: torch.Tensor, sigma: float, *, by_dimension: bool = False, precision: str = "float64"
) -> torch.Tensor:
    """Return H K H of the kernel exp(−‖x − x'‖² / (2 σ²)), shape (n, n).

    Centring removes constants, so K − 1 = expm1(·) is centred instead of K: entries near 1, as with
    a large σ, keep their digits.

    Args:
        x: Samples, centred, shape (n, d).
        sigma: Width of the kernel.
        by_dimension: Divide the exponent by d too, as the HSIC bottleneck does.
        precision: ``float64``, or ``mixed`` for products of samples in float32.

    Raises:
        InputError: σ is not above 0.
    """
    if not sigma > 0 or sigma == float("inf"):
        raise InputError(f"sigma is {sigma}; expected a finite number above 0.")
    scale = 2.0 * sigma**2 * (x.shape[1] if by_dimension else 1)
    exponents = _scaled_distances(x, -1.0 / scale, precision)
    return centre(exponents.clamp_(max=0.0).fill_diagonal_(0.0).expm1_())


def centre(kernel: torch.Tensor) -> torch.Tensor:
    """Return H K H of a symmetric matrix, which is overwritten."""
    means = kernel.mean(dim=0, dtype=torch.float64)
    rest = means - means.mean()
    return kernel.sub_(means.to(kernel.dtype)[:, None]).sub_(rest.to(kernel.dtype)[None, :])


def median_sigma(x: npt.ArrayLike | torch.Tensor, *, seed: int = 0) -> float:
    """Return the median distance between samples, the usual heuristic for σ.

    Args:
        x: Samples, shape (n, d) or (n,).
        seed: Seed of the choice of 2,000 samples if there are more.

    Raises:
        InputError: As :func:`as_samples`, or all samples are equal.
    """
    samples = as_samples(x)
    if len(samples) > _MEDIAN_SAMPLES:
        chosen = np.random.default_rng(seed).permutation(len(samples))[:_MEDIAN_SAMPLES]
        samples = samples[torch.from_numpy(chosen).to(samples.device)]
    rows, columns = torch.triu_indices(len(samples), len(samples), offset=1)
    distances = squared_distances(samples)[rows, columns].sqrt()
    median = float(distances.median())
    if median == 0:
        positive = distances[distances > 0]
        if not len(positive):
            raise InputError("All samples are equal: there is no median distance.")
        median = float(positive.median())
    return median


def _from_numpy(values: Any, name: str) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} does not hold numbers: {error}") from error

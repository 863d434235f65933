"""I(T, X) and I(T, Y) of a layer: dependence on the input and on the label, with their nulls.

After arXiv 2402.19465, section 4: X is block 0's output, T the layer's, Y the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lm_eval_trust.analysis.hsic import EPSILON, SIGMA, Samples, linear_cka, smoother
from lm_eval_trust.analysis.kernels import (
    PRECISIONS,
    as_samples,
    gaussian_gram,
    median_sigma,
    require_equal_n,
    standardise,
)
from lm_eval_trust.analysis.nulls import PERMUTATIONS, Null, permutation_null
from lm_eval_trust.core.errors import InputError, unknown_name

ESTIMATORS = ("nhsic", "hsic")


@dataclass(frozen=True)
class InformationSettings:
    """Which dependence is measured.

    Attributes:
        estimator: ``nhsic`` (what the paper's figures show) or ``hsic`` (its equation 5).
        sigma: Width of the kernels, or ``median`` for each side's median distance.
        epsilon: Ridge of ``nhsic``, times n.
        permutations: Of the null; 0 for none.
        seed: Of the null and of subsamples.
        precision: ``float64``, or ``mixed`` for float32 matrices with sums in float64.
    """

    estimator: str = "nhsic"
    sigma: float | Literal["median"] = SIGMA
    epsilon: float = EPSILON
    permutations: int = PERMUTATIONS
    seed: int = 0
    precision: str = "float64"

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown_name("estimator", self.estimator, ESTIMATORS)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class LayerInformation:
    """What a layer holds of input and label.

    Attributes:
        input: I(T, X) beside its null.
        label: I(T, Y) beside its null.
    """

    input: Null
    label: Null


class InformationPlane:
    """Measures layers against one input and one labelling, whose factors are computed once.

    Args:
        x: Activations of the input, floats of shape (n, d).
        y: 0 or 1, shape (n,).
        settings: Which dependence.

    Raises:
        InputError: Unequal n, bad values, or one label only.
    """

    def __init__(self, x: Samples, y: Samples, settings: InformationSettings | None = None) -> None:
        self._settings = settings or InformationSettings()
        inputs, labels = as_samples(x, name="x"), as_samples(y, name="y")
        require_equal_n(inputs, labels)
        if not ((labels == 0) | (labels == 1)).all() or labels.shape[1] != 1:
            raise InputError("y must hold one label, 0 or 1, for each sample.")
        if labels.min() == labels.max():
            raise InputError("y holds one label only; dependence on it is not defined.")
        self._n = len(inputs)
        self._inputs = self._factor(inputs)
        self._weight, self._unit = self._label_factor(labels.to(inputs.device))

    def measure(self, t: Samples) -> LayerInformation:
        """Return I(T, X) and I(T, Y) of a layer's activations, shape (n, d).

        Raises:
            InputError: Another n than the input's, or bad values.
        """
        layer = as_samples(t, name="t")
        if len(layer) != self._n:
            raise InputError(f"t holds {len(layer)} samples and x {self._n}; n must be equal.")
        factor = self._factor(layer)
        if not self._settings.permutations:
            of_input = float((factor * self._inputs).sum(dtype=torch.float64))
            of_label = float(self._unit @ (factor @ self._unit)) * self._weight
            return LayerInformation(self._alone(of_input), self._alone(of_label))
        labels = self._weight * torch.outer(self._unit, self._unit)
        return LayerInformation(self._null(factor, self._inputs), self._null(factor, labels))

    @property
    def _scale(self) -> float:
        return 1.0 if self._settings.estimator == "nhsic" else 1.0 / (self._n - 1) ** 2

    def _alone(self, trace: float) -> Null:
        unknown = float("nan")
        return Null(self._scale * trace, unknown, unknown, unknown, 0)

    def _null(self, factor: torch.Tensor, other: torch.Tensor) -> Null:
        settings, scale = self._settings, self._scale
        null = permutation_null(
            factor, other, permutations=settings.permutations, seed=settings.seed
        )
        return Null(
            null.value * scale,
            null.mean * scale,
            null.quantile95 * scale,
            null.p,
            null.permutations,
        )

    def _factor(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the matrix whose products' traces are the estimator."""
        settings = self._settings
        scaled = standardise(samples.to(PRECISIONS[settings.precision]))
        normalised = settings.estimator == "nhsic"
        gram = gaussian_gram(
            scaled, self._sigma(scaled), by_dimension=normalised, precision=settings.precision
        )
        return smoother(gram, settings.epsilon) if normalised else gram

    def _label_factor(self, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return the same for binary labels: weight and direction of a matrix of rank 1."""
        settings = self._settings
        scaled = standardise(labels)
        sigma = self._sigma(scaled)
        low, high = scaled.min(), scaled.max()
        # K is 1 within a label and k across: H K H = (1 − k)/2 s sᵀ with the centred signs s.
        strength = -0.5 * torch.expm1(-((high - low) ** 2) / (2.0 * sigma**2))
        signs = torch.where(scaled[:, 0] > 0, 1.0, -1.0).to(torch.float64)
        signs = signs - signs.mean()
        weight = strength * signs.square().sum()
        unit = signs / signs.norm()
        if settings.estimator == "nhsic":
            weight = weight / (weight + settings.epsilon * self._n)
        return float(weight), unit.to(PRECISIONS[settings.precision])

    def _sigma(self, scaled: torch.Tensor) -> float:
        if self._settings.sigma != "median":
            return float(self._settings.sigma)
        median = median_sigma(scaled, seed=self._settings.seed)
        return median / scaled.shape[1] ** 0.5 if self._settings.estimator == "nhsic" else median


def subsample_interval(
    x: Samples,
    y: Samples,
    t: Samples,
    settings: InformationSettings | None = None,
    *,
    share: float = 0.5,
    repeats: int = 20,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return 95 % intervals of I(T, X) and I(T, Y) by subsampling (Politis and Romano 1994).

    The estimators' level depends on n, so that subsamples tell the spread only: deviations from
    their own mean, scaled by the square root of their share, are put around the value at n.

    Args:
        x: Input, shape (n, d).
        y: Labels, shape (n,).
        t: Layer, shape (n, d).
        settings: Which dependence.
        share: Of the samples in a subsample.
        repeats: Subsamples.

    Raises:
        InputError: As :class:`InformationPlane`, or a share that leaves too few samples.
    """
    settings = settings or InformationSettings()
    plain = InformationSettings(**{**settings.__dict__, "permutations": 0})
    inputs, labels, layer = (as_samples(v, name=n) for v, n in ((x, "x"), (y, "y"), (t, "t")))
    whole = InformationPlane(inputs, labels, plain).measure(layer)
    size = int(share * len(inputs))
    if not 4 <= size < len(inputs):
        raise InputError(f"A share of {share} of {len(inputs)} samples is no proper subsample.")
    random = np.random.default_rng(settings.seed)
    values = []
    for _ in range(repeats):
        rows = torch.from_numpy(random.permutation(len(inputs))[:size]).to(inputs.device)
        found = InformationPlane(inputs[rows], labels[rows], plain).measure(layer[rows])
        values.append((found.input.value, found.label.value))
    deviations = share**0.5 * (np.array(values) - np.mean(values, axis=0))
    low, high = np.quantile(deviations, [0.025, 0.975], axis=0)
    of_input, of_label = whole.input.value, whole.label.value
    return (of_input - high[0], of_input - low[0]), (of_label - high[1], of_label - low[1])


def alignment_to(final: Samples, layer: Samples) -> float:
    """Return the linear CKA of a layer to the same layer of the final checkpoint."""
    return linear_cka(layer, final)

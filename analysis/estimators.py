"""Estimators of dependence between two sets of samples, by name.

An entry carries the whole of an estimator: its matrices, its scale, what ``sigma: median`` means,
and its null. Analyses, studies, the command line, figures and the page read it from
:data:`ESTIMATORS`; another package adds one in its ``pyproject.toml``::

    [project.entry-points."lm_eval_trust.estimators"]
    dcov = "my_package.estimators:DISTANCE_COVARIANCE"

PyTorch is imported only when something is measured, so listing the names is quick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.registry import Registry

if TYPE_CHECKING:
    import torch

    from lm_eval_trust.analysis.information import InformationSettings
    from lm_eval_trust.analysis.nulls import Exchangeability, Null


@dataclass(frozen=True)
class RankOne:
    """The symmetric matrix weight · u uᵀ, which is what a binary labelling contributes.

    Attributes:
        weight: Its only eigenvalue other than 0.
        unit: u, of length 1, shape (n,).
    """

    weight: float
    unit: torch.Tensor


class Estimator(ABC):
    """A measure of dependence: the scaled trace of a product of two matrices, one of each side.

    HSIC, normalised HSIC, distance covariance and linear CKA are of this form. A subclass names
    itself and implements :meth:`factor`; the permutation null follows. A measure of another form
    overrides :meth:`dependence` too, and may let :meth:`factor` return what it likes.

    Attributes:
        title: What figures and tables call it, e.g. ``nHSIC``.
        description: One line for help texts.
    """

    title: str
    description: str

    @abstractmethod
    def factor(self, samples: torch.Tensor, settings: InformationSettings) -> Any:
        """Return what one side contributes; computed once for each side and layer.

        Args:
            samples: Standardised features, shape (n, d), in the settings' precision.
            settings: Width, ridge, seed and precision.

        Returns:
            A symmetric matrix whose rows sum to 0, shape (n, n).
        """

    def label_factor(self, labels: torch.Tensor, settings: InformationSettings) -> Any:
        """Return the same of two labels, 0 and 1 or standardised, float64, shape (n, 1).

        Overridden if there is a closed form, as a :class:`RankOne`.
        """
        return self.factor(labels, settings)

    def scale(self, n: int) -> float:
        """Return what the trace is multiplied by at n samples."""
        return 1.0

    def median_sigma(self, samples: torch.Tensor, settings: InformationSettings) -> float:
        """Return the width that ``sigma: median`` stands for."""
        from lm_eval_trust.analysis.kernels import median_sigma

        return median_sigma(samples, seed=settings.seed)

    def sigma(self, samples: torch.Tensor, settings: InformationSettings) -> float:
        """Return the kernels' width as set, or by :meth:`median_sigma`."""
        if settings.sigma == "median":
            return self.median_sigma(samples, settings)
        return float(settings.sigma)

    def dependence(
        self, layer: Any, other: Any, settings: InformationSettings, exchange: Exchangeability
    ) -> Null:
        """Return the measure of two factors with its permutation null.

        Args:
            layer: Number of the layer.
            other: The same of the input or the labels.
            settings: With ``permutations: 0``, the null is NaN.
            exchange: Which permutations of the input's rows or of the labels are allowed.
        """
        import torch

        from lm_eval_trust.analysis.nulls import permutation_null, rank_one_null, without_null

        scale, rank_one = self.scale(len(layer)), isinstance(other, RankOne)
        draws: dict[str, Any] = {"permutations": settings.permutations, "seed": settings.seed}
        if settings.permutations and rank_one:
            null = rank_one_null(layer, other.unit, other.weight, exchange, **draws)
        elif settings.permutations:
            null = permutation_null(layer, other, exchange, **draws)
        elif rank_one:
            null = without_null(float(other.unit @ (layer @ other.unit)) * other.weight)
        else:
            null = without_null(float((layer * other).sum(dtype=torch.float64)))
        return null.scaled(scale)


class Hsic(Estimator):
    """The biased estimator with Gaussian kernels; see :func:`lm_eval_trust.analysis.hsic.hsic`."""

    title = "HSIC"
    description = "HSIC, equation 5 of arXiv 2402.19465"

    def factor(self, samples: torch.Tensor, settings: InformationSettings) -> torch.Tensor:
        """Return H K H."""
        from lm_eval_trust.analysis.kernels import gaussian_gram

        sigma = self.sigma(samples, settings)
        return gaussian_gram(samples, sigma, precision=settings.precision)

    def label_factor(self, labels: torch.Tensor, settings: InformationSettings) -> RankOne:
        """Return H K H of two labels: K is 1 within a label and k across, so its rank is 1."""
        import torch

        low, high = labels.min(), labels.max()
        # H K H = (1 − k)/2 s sᵀ with the centred signs s.
        sigma = self.sigma(labels, settings)
        strength = -0.5 * torch.expm1(-((high - low) ** 2) / (2.0 * sigma**2))
        signs = torch.where(labels[:, 0] == high, 1.0, -1.0).to(torch.float64)
        signs = signs - signs.mean()
        weight = strength * signs.square().sum()
        return RankOne(float(weight), signs / signs.norm())

    def scale(self, n: int) -> float:
        """Return (n − 1)⁻²."""
        return 1.0 / (n - 1) ** 2


class NormalisedHsic(Hsic):
    """The form of the HSIC bottleneck; see :func:`lm_eval_trust.analysis.hsic.nhsic`."""

    title = "nHSIC"
    description = "normalised HSIC, which the paper's figures show"

    def factor(self, samples: torch.Tensor, settings: InformationSettings) -> torch.Tensor:
        """Return S = G (G + ε n I)⁻¹, G = H K H; the kernel's exponent is divided by d as well."""
        from lm_eval_trust.analysis.hsic import smoother
        from lm_eval_trust.analysis.kernels import gaussian_gram

        sigma = self.sigma(samples, settings)
        gram = gaussian_gram(samples, sigma, by_dimension=True, precision=settings.precision)
        return smoother(gram, settings.epsilon)

    def label_factor(self, labels: torch.Tensor, settings: InformationSettings) -> RankOne:
        """Return S of the labels, whose only eigenvalue is λ / (λ + ε n)."""
        plain = super().label_factor(labels, settings)
        weight = plain.weight / (plain.weight + settings.epsilon * len(labels))
        return RankOne(weight, plain.unit)

    def scale(self, n: int) -> float:
        """Return 1."""
        return 1.0

    def median_sigma(self, samples: torch.Tensor, settings: InformationSettings) -> float:
        """Return the median distance over √d, since the exponent is divided by d already."""
        return super().median_sigma(samples, settings) / float(samples.shape[1] ** 0.5)


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    "lm_eval_trust.estimators",
    Estimator,  # type: ignore[type-abstract]
    {"nhsic": NormalisedHsic(), "hsic": Hsic()},
)


def columns(estimator: str) -> dict[str, str]:
    """Return an estimator's names in tables of measurements, and what they are called.

    Args:
        estimator: Its name in :data:`ESTIMATORS`.
    """
    title = ESTIMATORS[estimator].title
    return {
        f"{estimator}_tx": f"I(T,X), {title}",
        f"{estimator}_ty": f"I(T,Y), {title}",
    }

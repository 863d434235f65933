"""Trends of series over checkpoints: polynomials with autoregressive noise, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.broken_lines import whiten

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Autocorrelations that are tried; with the last, innovations are nearly differences.
_RHOS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
_LARGEST_DEGREE = 8
#: With fewer checkpoints, the degree is as uncertain as ρ: so many larger ones count too.
_FEW, _FURTHER = 16, 2
#: A residual this much smaller than its series is rounding.
_ROUNDING = 1e-9
#: Slopes of the logistic curves that a series may follow once: nine tenths of such a rise take a
#: half, a quarter or an eighth of the checkpoints.
_SLOPES = (12.0, 24.0, 48.0)


def both_axes(steps: Floats) -> tuple[Trends, Trends]:
    """Return trends over log(1 + step) and over the step."""
    return Trends("log(1 + step)", np.log1p(steps)), Trends("step", steps)


def closest(axes: Sequence[Trends], series: Floats) -> tuple[Trends, list[tuple[int, float]]]:
    """Return the trends that fit best to all series, and what is plausible of them.

    Args:
        axes: Trends over each axis.
        series: None of them constant, shape (series, k).
    """
    criteria = [trends.criteria(series) for trends in axes]
    best = int(np.argmin([each.min(axis=(1, 2)).sum() for each in criteria]))
    return axes[best], axes[best].plausible(criteria[best])


class Trends:
    """Fits of polynomials with autoregressive noise.

    Args:
        axis: Name of what they are polynomials in.
        places: Its values, ascending, shape (k,).
    """

    def __init__(self, axis: str, places: Floats) -> None:
        self.axis, self._count = axis, len(places)
        places = 2 * (places - places[0]) / (places[-1] - places[0]) - 1
        #: A series that takes this degree may need a larger one still.
        self.largest = min(_LARGEST_DEGREE, len(places) // 2)
        self._degrees = np.arange(1, self.largest + 1)
        basis = np.polynomial.legendre.legvander(places, self._degrees[-1])
        #: Of the whitened basis, so that its first columns span every smaller degree.
        self._orthonormal = {rho: np.linalg.qr(whiten(basis.T, rho).T)[0] for rho in _RHOS}
        self._changes: dict[tuple[int, float], Floats] = {}

    def plausible(self, criteria: Floats) -> list[tuple[int, float]]:
        """Return degrees and ρ: the largest of the series' best models, and what they may miss.

        That is any larger ρ, and if there are few checkpoints the next two degrees as well.

        Args:
            criteria: Akaike criteria of each series, from :meth:`criteria`.
        """
        best = criteria.reshape(len(criteria), -1).argmin(axis=1)
        rhos, degrees = np.unravel_index(best, criteria.shape[1:])
        degree = int(self._degrees[degrees.max()])
        further = min(_FURTHER, self.largest - degree) if self._count < _FEW else 0
        return [
            (d, rho) for d in range(degree, degree + further + 1) for rho in _RHOS[rhos.max() :]
        ]

    def criteria(self, series: Floats) -> Floats:
        """Return corrected Akaike criteria, shape (series, ρ's, degrees).

        Args:
            series: None of them constant, shape (series, k).
        """
        n = series.shape[1]
        scaled = (series - series.mean(axis=1, keepdims=True)) / np.ptp(series, axis=1)[:, None]
        found = np.empty((len(series), len(_RHOS), len(self._degrees)))
        for i, rho in enumerate(_RHOS):
            white = whiten(scaled, rho)
            explained = np.cumsum((white @ self._orthonormal[rho]) ** 2, axis=1)[:, 1:]
            squares = np.maximum((white**2).sum(axis=1, keepdims=True) - explained, _ROUNDING**2)
            # Coefficients, variance, and ρ where there is one.
            free = self._degrees + 2 + (rho > 0)
            penalty = 2 * free * n / np.maximum(n - free - 1, 0.5)
            found[:, i] = n * np.log(squares / n) - np.log(1 - rho**2) + penalty
        return found

    def null(
        self,
        x: Floats,
        y: Floats,
        degree: int,
        rho: float,
        orders: Integers,
        *,
        without: Floats | None = None,
    ) -> Floats:
        """Return correlations of innovations, those of y permuted, shape (orders, x's, y's).

        Args:
            x: Shape (x's, k).
            y: Shape (y's, k).
            degree: Degree of the trend.
            rho: Coefficient of the autoregression.
            orders: Permutations, shape (orders, k).
            without: What is taken out besides the trend, from :meth:`largest_change`.
        """
        basis = self._orthonormal[rho][:, : degree + 1]
        if without is not None:
            basis = np.column_stack([basis, without])
        of_x, of_y = (self._innovations(values, basis, rho) for values in (x, y))
        permuted = of_y[:, orders]
        within = (permuted**2).sum(axis=2) - ((permuted @ basis) ** 2).sum(axis=2)
        lengths = np.sqrt(np.maximum(within, 0)).T[:, None] * np.linalg.norm(of_x, axis=1)[:, None]
        found: Floats = np.divide(
            np.einsum("xk,yok->oxy", of_x, permuted),
            lengths,
            out=np.full(lengths.shape, np.nan),
            where=lengths > 0,
        )
        return found

    def largest_change(self, x: Floats, y: Floats, degree: int, rho: float) -> Floats:
        """Return the change that adds most to the correlation of two series, shape (k,).

        It is at one checkpoint, or a rise over several; whitened, without trend, of length 1.

        Args:
            x: Not only trend, shape (k,).
            y: The same.
            degree: Degree of the trend.
            rho: Coefficient of the autoregression.
        """
        if (degree, rho) not in self._changes:
            self._changes[degree, rho] = self._beyond_trend(degree, rho)
        changes = self._changes[degree, rho]
        basis = self._orthonormal[rho][:, : degree + 1]
        of_x, of_y = self._innovations(np.stack([x, y]), basis, rho)
        added = np.sign(of_x @ of_y) * (changes @ of_x) * (changes @ of_y)
        found: Floats = changes[added.argmax()]
        return found

    def _beyond_trend(self, degree: int, rho: float) -> Floats:
        """Return changes without trend, of length 1, shape (changes, k)."""
        changes = np.concatenate([np.eye(self._count), whiten(_rises(self._count), rho)])
        basis = self._orthonormal[rho][:, : degree + 1]
        beyond = changes - (changes @ basis) @ basis.T
        lengths = np.linalg.norm(beyond, axis=1, keepdims=True)
        # What a trend can follow is no change.
        apart = (lengths > _ROUNDING * np.linalg.norm(changes, axis=1, keepdims=True)).ravel()
        found: Floats = beyond[apart] / lengths[apart]
        return found

    def jackknifed(self, x: Floats, y: Floats, degree: int, rho: float) -> Floats:
        """Return correlations of innovations, of all checkpoints and then without each.

        Args:
            x: Shape (x's, k).
            y: Shape (y's, k).
            degree: Degree of the trend, which is fitted again without a checkpoint.
            rho: Coefficient of the autoregression.

        Returns:
            Shape (1 + k, x's, y's); 0 where nothing remains.
        """
        basis = self._orthonormal[rho][:, : degree + 1]
        of_x, of_y = (self._innovations(values, basis, rho) for values in (x, y))
        # Without a checkpoint, a sum of products of residuals loses its term over 1 − leverage.
        kept = np.maximum(1 - (basis**2).sum(axis=1), _ROUNDING)

        def sums(terms: Floats) -> Floats:
            whole = terms.sum(axis=-1, keepdims=True)
            left = whole - terms / kept
            return np.concatenate([whole, np.where(np.abs(left) > _ROUNDING * whole, left, 0)], -1)

        lengths = np.sqrt(np.maximum(sums(of_x**2)[:, None] * sums(of_y**2), 0))
        found = np.divide(
            sums(of_x[:, None] * of_y), lengths, out=np.zeros(lengths.shape), where=lengths > 0
        )
        return np.moveaxis(found, -1, 0)

    @staticmethod
    def _innovations(values: Floats, basis: Floats, rho: float) -> Floats:
        """Return whitened residuals, 0 where they are rounding."""
        white = whiten(values - values.mean(axis=1, keepdims=True), rho)
        rest = white - (white @ basis) @ basis.T
        rounding = _ROUNDING * np.linalg.norm(white, axis=1, keepdims=True)
        found: Floats = np.where(np.linalg.norm(rest, axis=1, keepdims=True) > rounding, rest, 0.0)
        return found


def _rises(count: int) -> Floats:
    """Return logistic curves with their middles at or between checkpoints, shape (rises, k)."""
    share = np.linspace(0, 1, count)
    middles = np.linspace(0, 1, 2 * count - 1)[1:-1]
    found: Floats = special.expit(
        np.multiply.outer(_SLOPES, share - middles[:, None]).reshape(-1, count)
    )
    return found

"""Broken lines against bounded least squares, and the level of their evidence in noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from lm_eval_trust.analysis.broken_lines import RHOS, STRONGEST, BrokenLines

STEPS = np.arange(12) * 20.0
ANY, UP, DOWN = (-np.inf, np.inf), (0, np.inf), (-np.inf, 0)


def likelihood(lines: BrokenLines, series: np.ndarray, before: object, after: object) -> float:
    """The mean over ρ, of the best line with slopes in these bounds, by its covariance."""
    n, found = len(series), []
    for rho in RHOS:
        covariance = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        low, high = zip((-np.inf, np.inf), before, after, strict=True)  # type: ignore[call-overload]
        squares = min(
            2 * lsq_linear(root @ d, root @ series, bounds=(low, high), method="bvls").cost
            for d in lines.designs
        )
        found.append(-np.linalg.slogdet(covariance)[1] / 2 - n / 2 * np.log(squares))
    return float(np.logaddexp.reduce(found))


@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_is_that_of_bounded_least_squares(seed: int) -> None:
    lines = BrokenLines(STEPS, 100, 0)
    series = np.random.default_rng(seed).normal(size=12)
    rises, falls = lines.evidence(series[None] - series.mean(), None)

    def over(one: tuple[object, object], other: tuple[object, object]) -> float:
        return likelihood(lines, series, *one) - likelihood(lines, series, *other)

    rise = over((UP, ANY), (DOWN, DOWN)), over((ANY, UP), (ANY, DOWN))
    fall = over((DOWN, ANY), (UP, UP)), over((ANY, DOWN), (ANY, UP))
    assert rises[:, 0] == pytest.approx(rise, abs=1e-6)
    assert falls[:, 0] == pytest.approx(fall, abs=1e-6)


def restricted(lines: BrokenLines, series: np.ndarray, rho: float) -> float:
    """The restricted likelihood of ρ: that of contrasts that no level and no slope changes."""
    n = len(series)
    covariance = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    best = -np.inf
    for design in lines.designs:
        contrasts = np.linalg.svd(design)[0][:, 3:]
        inside = contrasts.T @ covariance @ contrasts
        squares = contrasts.T @ series @ np.linalg.solve(inside, contrasts.T @ series)
        # Contrasts are orthonormal: the design's own volume does not depend on ρ, but on the line.
        volumes = np.linalg.slogdet(inside)[1] + np.linalg.slogdet(design.T @ design)[1]
        best = max(best, -volumes / 2 - (n - 3) / 2 * np.log(squares))
    return float(best)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_rho_is_that_of_the_restricted_likelihood(seed: int) -> None:
    lines = BrokenLines(STEPS, 100, 0)
    series = np.random.default_rng(seed).normal(size=12).cumsum()
    series = (series - series.mean()) / np.ptp(series)
    likelihoods = np.array([restricted(lines, series, rho) for rho in RHOS])
    weights = np.exp(likelihoods - likelihoods.max())
    expected = weights @ RHOS / weights.sum()
    assert lines.fit(series[None], None).rho == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("place", [0, 3])
def test_the_variance_of_the_noise_allows_for_the_line_that_was_fitted(place: int) -> None:
    lines, rho = BrokenLines(STEPS, 100, 0), RHOS[place]
    covariance = rho ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    noise = np.random.default_rng(7).normal(size=(4000, 12)) @ np.linalg.cholesky(covariance).T
    found = lines.fit(noise, 6).variance[place].mean()
    assert found == pytest.approx(1, abs=0.1)


def test_noise_reaches_a_p_as_often_as_it_says() -> None:
    lines, random = BrokenLines(STEPS, 1000, 0), np.random.default_rng(5)
    covariance = STRONGEST ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    rising = 2 * np.minimum(np.arange(12) / 4, 1)
    series = rising + random.normal(size=(1000, 12)) @ np.linalg.cholesky(covariance).T
    p = lines.nulls(None).p(1, lines.evidence(series, None)[1][1])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.7])
def test_weaker_autocorrelation_reaches_a_p_less_often(rho: float) -> None:
    lines, random = BrokenLines(STEPS, 1000, 0), np.random.default_rng(6)
    covariance = rho ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    rising = 2 * np.minimum(np.arange(12) / 4, 1)
    series = rising + random.normal(size=(1000, 12)) @ np.linalg.cholesky(covariance).T
    p = lines.nulls(None).p(1, lines.evidence(series, None)[1][1])
    assert (p <= 0.05).mean() <= 0.065

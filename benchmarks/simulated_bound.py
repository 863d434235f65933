"""The most true phases that any test can find, for simulations.py.

I(T, X) turns somewhere in the middle half of the checkpoints, sharply or without a kink, with noise
of three autocorrelations; each curve and autocorrelation counts the same. A test that calls
at most one in twenty curves phases where nothing falls, whatever their scale and the noise's
autocorrelation up to 0.8, also holds this level for any mixture of such curves. So on average it
finds at most what the best test between two known mixtures finds (Elliott, Müller and Watson 2015,
*Econometrica* 83, 771–811), which is a likelihood ratio. Their algorithm looks for the mixture with
the lowest such bound; every mixture gives a valid one, up to the error of simulation. The test
that is bounded knows the curves, the size of their fall and of the noise, and that both other
slopes are there; `find_phases` knows nothing of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize
from simulated_series import autoregression, correlations, sharp_turn, smooth_turn

from lm_eval_trust.analysis.phases import BOTH, find_phases

Floats = npt.NDArray[np.float64]

RHOS = (0.0, 0.5, 0.8)
#: Noise of curves that fall, over their rise, and of curves that do not.
SPREADS = (0.05, 0.08, 0.1)
NULL_SPREADS = (0.05, 0.08, 0.11, 0.14, 0.17, 0.21, 0.26, 0.32, 0.4, 0.5, 0.7, 1.0)
NULL_RHOS = (0.0, 0.4, 0.65, 0.8)
LEVEL = 0.05
#: Series of each null while mixtures are sought, and of each mixture once it is found.
SEARCHED, DRAWN, ROUNDS = 300, 40_000, 1500


def never_falling(curve: Floats, rho: float) -> Floats:
    """Return the nearest curve that falls nowhere, with the noise's autocorrelation."""
    root = np.linalg.inv(np.linalg.cholesky(correlations(len(curve), rho)))
    upward = np.tril(np.ones((len(curve), len(curve))))
    least = np.append(-np.inf, np.zeros(len(curve) - 1))
    rises = optimize.lsq_linear(root @ upward, root @ curve, bounds=(least, np.inf)).x
    found: Floats = upward @ rises
    return found


@lru_cache
def _log_moments(n: int) -> tuple[Floats, Floats]:
    """Return values c, and the logarithms of the integrals of tⁿ exp(c t − t²/2) over t > 0."""
    at, grid = np.linspace(-60, 200, 5201), np.linspace(1e-3, 230, 6000)
    within = n * np.log(grid) - grid**2 / 2 + at[:, None] * grid
    highest = within.max(axis=1)
    return at, highest + np.log(np.exp(within - highest[:, None]).sum(axis=1))


@dataclass(frozen=True)
class Series:
    """A curve with noise, of unknown level and scale.

    Attributes:
        curve: Shape (n,).
        spread: Standard deviation of the noise, over the curve's rise.
        rho: Its autocorrelation.
    """

    curve: Floats
    spread: float
    rho: float

    @cached_property
    def _root(self) -> Floats:
        """A matrix that makes the noise of differences between checkpoints white."""
        steps = np.diff(np.eye(len(self.curve)), axis=0)
        covariance = self.spread**2 * steps @ correlations(len(self.curve), self.rho) @ steps.T
        found: Floats = np.linalg.inv(np.linalg.cholesky(covariance))
        return found

    def draw(self, random: np.random.Generator, runs: int) -> Floats:
        """Return differences between checkpoints, shape (runs, n − 1)."""
        white = random.normal(size=(runs, len(self._root)))
        found: Floats = np.diff(self.curve) + np.linalg.solve(self._root, white.T).T
        return found

    def log_density(self, differences: Floats) -> Floats:
        """Return the log-density of their direction up to a constant, shape (runs,).

        The scale is integrated out: if W whitens the noise, u = W d and v = W E[d], the density is
        |W| e^(−v²/2) |u|^(1 − n) ∫ tⁿ⁻² exp(t u·v / |u| − t²/2) dt.
        """
        white, mean = differences @ self._root.T, self._root @ np.diff(self.curve)
        length = np.linalg.norm(white, axis=1)
        determinant = np.log(np.diag(self._root)).sum()
        moment = np.interp(white @ mean / length, *_log_moments(len(self.curve) - 2))
        found: Floats = determinant - mean @ mean / 2 - len(mean) * np.log(length) + moment
        return found


def mixture(parts: Sequence[Series], weights: Floats, differences: Floats) -> Floats:
    """Return the log-density of a mixture, shape (runs,)."""
    each = (
        part.log_density(differences) + np.log(w) for part, w in zip(parts, weights, strict=True)
    )
    found: Floats = np.logaddexp.reduce(list(each))
    return found


def most(falling: Sequence[Series], nulls: Sequence[Series], random: np.random.Generator) -> float:
    """Return the most that a test finds of curves that fall, on average."""
    even = np.full(len(falling), 1 / len(falling))
    drawn = np.concatenate([null.draw(random, SEARCHED) for null in nulls])
    against = mixture(falling, even, drawn)
    likelier = np.stack([null.log_density(drawn) - against for null in nulls], axis=1)
    ratios = np.exp(likelier.clip(-60, 60).astype(np.float32))
    logs = np.full(len(nulls), -np.log(len(nulls)))
    for _ in range(ROUNDS):
        # More weight for what is found too often.
        rates = (ratios @ np.exp(logs).astype(np.float32) < 1).reshape(len(nulls), -1).mean(axis=1)
        logs = (logs + 6 * (rates - LEVEL)).clip(-60, 60)
    kept = logs > logs.max() - 9
    chosen = [null for null, keep in zip(nulls, kept, strict=True) if keep]
    weights = np.exp(logs[kept]) / np.exp(logs[kept]).sum()

    def evidence(differences: Floats) -> Floats:
        return mixture(falling, even, differences) - mixture(chosen, weights, differences)

    counts = random.multinomial(DRAWN, weights)
    under = [null.draw(random, count) for null, count in zip(chosen, counts, strict=True)]
    limit = np.quantile(evidence(np.concatenate(under)), 1 - LEVEL)
    each = DRAWN // len(falling)
    true = np.concatenate([series.draw(random, each) for series in falling])
    return float((evidence(true) > limit).mean())


def share_found(series: Series, runs: int, seed: int) -> float:
    """Return how often `find_phases` finds phases, with an I(T, Y) that clearly rises."""
    n = len(series.curve)
    share, steps = np.linspace(0, 1, n), np.round(np.linspace(0, 359, n))
    times = 0
    for run in range(runs):
        random = np.random.default_rng((seed, run))
        x = series.curve + series.spread * autoregression(random, n, series.rho)
        y = 1 - np.exp(-4 * share) + 0.02 * autoregression(random, n, series.rho)
        times += find_phases(steps, x, y, resamples=400).verdict == BOTH
    return times / runs


HEADER = ("turns", "noise", "any test, at most", "now")


def nulls_of(n: int) -> Iterator[Series]:
    """Yield curves that fall nowhere, with noise."""
    share = np.linspace(0, 1, n)
    curves = [never_falling(sharp_turn(share, turn), 0.8) for turn in (0.3, 0.5, 0.7)]
    curves += [never_falling(smooth_turn(share, turn), 0.8) for turn in (0.4, 0.5)]
    curves += [np.minimum(share / turn, 1) for turn in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8)]
    for curve, spread, rho in itertools.product(curves, NULL_SPREADS, NULL_RHOS):
        yield Series(curve, spread, rho)


def bound_rates(runs: int, n: int = 18) -> Iterator[Sequence[object]]:
    """Yield what any test of n checkpoints finds at most, and what is found now."""
    share, nulls = np.linspace(0, 1, n), list(nulls_of(n))
    turns = np.linspace(0.25, 0.75, 9)
    curves = {
        "sharp": [sharp_turn(share, turn) for turn in turns],
        "without a kink": [smooth_turn(share, turn) for turn in np.linspace(0.25, 0.5, 9)],
    }
    curves["both"] = curves["sharp"] + curves["without a kink"]
    cases = [(name, (spread,)) for name in curves for spread in SPREADS] + [("both", SPREADS)]
    falls = [sharp_turn(share, turn, fall) for fall in (0.4, 0.6, 0.8) for turn in turns]
    curves["both, sharp falls of 0.4 to 0.8"] = falls + curves["without a kink"]
    cases.append(("both, sharp falls of 0.4 to 0.8", SPREADS))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, spreads in cases:
            falling = [Series(*each) for each in itertools.product(curves[name], spreads, RHOS)]
            rates = pool.map(share_found, falling, itertools.repeat(runs), range(len(falling)))
            bound = most(falling, nulls, np.random.default_rng(0))
            noise = " or ".join(f"{spread:g}" for spread in spreads)
            yield name, noise, bound, float(np.mean(list(rates)))

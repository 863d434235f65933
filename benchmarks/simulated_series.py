"""Simulated series over checkpoints: phases and correlations, for simulations.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.correlation import correlate, correlate_over_steps
from lm_eval_trust.analysis.phases import BOTH, FITTING, NONE, UNDECIDED, find_phases

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]


def autoregression(random: np.random.Generator, n: int, rho: float) -> Floats:
    """Return stationary noise of variance 1, shape (n,)."""
    noise = random.normal(size=n)
    for i in range(1, n):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return noise


def two_phases(share: Floats) -> Pair:
    """Return I(T, X) that rises by 1 and falls by 0.6, and I(T, Y) that saturates."""
    return np.where(share < 0.5, 2 * share, 1 - 1.2 * (share - 0.5)), 1 - np.exp(-4 * share)


def saturating(share: Floats) -> Pair:
    """Return two curves that rise by nearly 1 and stay there."""
    return 1 - np.exp(-4 * share), 1 - np.exp(-4 * share)


def flat(share: Floats) -> Pair:
    """Return no signal."""
    return 0 * share, 0 * share


def verdict_before(steps: Floats, x: Floats, y: Floats, random: np.random.Generator) -> str:
    """The former verdict: slopes beyond intervals by bootstrap of residuals, as if independent."""
    axis = np.log1p(steps)
    designs = np.stack(
        [
            np.stack([np.ones_like(axis), np.minimum(axis - t, 0), np.maximum(axis - t, 0)], axis=1)
            for t in axis[2:-2]
        ]
    )
    solve, bases = np.linalg.pinv(designs), np.linalg.qr(designs)[0]
    stacked = bases.transpose(1, 0, 2).reshape(len(axis), -1)

    def best(series: Floats) -> npt.NDArray[np.int64]:
        explained = ((series @ stacked) ** 2).reshape(len(series), len(designs), 3).sum(axis=2)
        found: npt.NDArray[np.int64] = explained.argmax(axis=1)
        return found

    def directions(series: Floats, knot: int, search: bool) -> list[int]:
        fitted = designs[knot] @ (solve[knot] @ series)
        rest = (series - fitted) * np.sqrt(len(series) / max(1, len(series) - 4))
        draws = fitted + random.choice(rest, size=(300, len(series)))
        knots = best(draws) if search else np.full(300, knot)
        slopes = np.einsum("sck,sk->sc", solve[knots], draws)[:, 1:]
        low, high = np.quantile(slopes, [0.025, 0.975], axis=0)
        return [int(low[i] > 0) - int(high[i] < 0) for i in (0, 1)]

    knot = int(best(x[None])[0])
    (x_before, x_after), (y_before, y_after) = directions(x, knot, True), directions(y, knot, False)
    if x_before == y_before == 1 and x_after == -1 != y_after:
        return BOTH
    return "other"


def level(share: Floats) -> Pair:
    """Return I(T, X) that rises by 1 and stays there, and I(T, Y) that saturates."""
    return np.minimum(2 * share, 1), 1 - np.exp(-4 * share)


def oracle(x: Floats, y: Floats, rho: float, spread: float) -> bool:
    """Whether tests that know turn, autocorrelation and spread of the noise find both phases."""
    share = np.linspace(0, 1, len(x))
    sides = np.minimum(share - 0.5, 0), np.maximum(share - 0.5, 0)
    covariance = spread**2 * rho ** np.abs(np.subtract.outer(*2 * [np.arange(len(x))]))
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    design = root @ np.stack([np.ones_like(share), *sides], axis=1)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    of_x, of_y = (np.linalg.lstsq(design, root @ side, rcond=None)[0] / errors for side in (x, y))
    return bool(min(of_x[1], -of_x[2], of_y[1]) >= special.ndtri(0.95))


#: Design → mean curves over the share of the checkpoints, autocorrelation and spread of the noise.
PHASES: dict[str, tuple[Callable[[Floats], Pair], float, float]] = {
    "no signal, AR 0": (flat, 0.0, 1.0),
    "no signal, AR .5": (flat, 0.5, 1.0),
    "no signal, AR .8": (flat, 0.8, 1.0),
    "saturating, AR .8, sd .3": (saturating, 0.8, 0.3),
    "up by 1, then level, AR .8, sd .3": (level, 0.8, 0.3),
    "two phases, AR 0, sd .05": (two_phases, 0.0, 0.05),
    "two phases, AR .5, sd .05": (two_phases, 0.5, 0.05),
    "two phases, AR .8, sd .05": (two_phases, 0.8, 0.05),
    "two phases, AR 0, sd .1": (two_phases, 0.0, 0.1),
    "two phases, AR .5, sd .1": (two_phases, 0.5, 0.1),
    "two phases, AR .8, sd .1": (two_phases, 0.8, 0.1),
}


PHASES_HEADER = ("design", "n", f"{BOTH} before", BOTH, FITTING, NONE, UNDECIDED, "all known")


def phase_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often each verdict is given, before and now, and phases found by :func:`oracle`."""
    for n in (18, 80):
        steps = np.round(np.linspace(0, 359, n))
        for name in (*PHASES, "random walks"):
            before, known, now = 0, 0, Counter[str]()
            _, rho, spread = PHASES.get(name, (flat, 0.0, 1.0))
            for seed in range(runs):
                random = np.random.default_rng(seed)
                x, y = _drawn(name, n, random)
                before += verdict_before(steps, x, y, random) == BOTH
                now[find_phases(steps, x, y, resamples=400).verdict] += 1
                known += oracle(x, y, rho, spread)
            verdicts = (now[verdict] / runs for verdict in (BOTH, FITTING, NONE, UNDECIDED))
            oracles = known / runs if name in PHASES else float("nan")
            yield name, n, before / runs, *verdicts, oracles


def _drawn(name: str, n: int, random: np.random.Generator) -> Pair:
    if name == "random walks":
        x, y = random.normal(size=(2, n)).cumsum(axis=1)
        return x, y
    curves, rho, spread = PHASES[name]
    x, y = (
        curve + spread * autoregression(random, n, rho) for curve in curves(np.linspace(0, 1, n))
    )
    return x, y


def learning_curve(random: np.random.Generator, steps: Floats, shape: str) -> Floats:
    """Return a curve of random rate and height: exponential, sigmoid in the log, or a power."""
    log = np.log1p(steps)
    if shape == "exponential":
        rate = np.exp(random.uniform(np.log(steps[-1] / 20), np.log(steps[-1] / 2)))
        curve = 1 - np.exp(-steps / rate)
    elif shape == "sigmoid":
        middle = random.uniform(log[0] + 0.3 * np.ptp(log), log[-1] - 0.1 * np.ptp(log))
        curve = 1 / (1 + np.exp(-(log - middle) / random.uniform(0.3, 1)))
    else:
        curve = 1 - (1 + steps) ** -random.uniform(0.1, 0.6)
    scaled: Floats = curve * random.uniform(0.1, 0.5)
    return scaled


def curves_over(
    steps: Floats, shape: str, spread: float, rho: float, shared: float
) -> Callable[[np.random.Generator], Pair]:
    """Return a draw of two series whose noise has a shared part of that share of its variance."""

    def draw(random: np.random.Generator) -> Pair:
        if shape == "random walk":
            x, y = random.normal(size=(2, len(steps))).cumsum(axis=1)
            return x, y
        common = autoregression(random, len(steps), rho)
        x, y = (
            learning_curve(random, steps, shape)
            + spread
            * (
                np.sqrt(shared) * common
                + np.sqrt(1 - shared) * autoregression(random, len(steps), rho)
            )
            for _ in "xy"
        )
        return x, y

    return draw


#: Shape, spread and autocorrelation of the noise, and the share of it that both series have.
CORRELATIONS = (
    ("exponential", 0.001, 0.0, 0.0),
    ("sigmoid", 0.001, 0.0, 0.0),
    ("exponential", 0.003, 0.0, 0.0),
    ("exponential", 0.01, 0.0, 0.0),
    ("exponential", 0.03, 0.0, 0.0),
    ("exponential", 0.03, 0.8, 0.0),
    ("sigmoid", 0.01, 0.0, 0.0),
    ("power", 0.01, 0.0, 0.0),
    ("random walk", 1.0, 1.0, 0.0),
    ("exponential", 0.03, 0.0, 0.7),
    ("exponential", 0.03, 0.0, 0.9),
    ("sigmoid", 0.03, 0.0, 0.9),
    ("exponential", 0.03, 0.8, 0.9),
)


CORRELATIONS_HEADER = ("n", "steps", "curves", "sd", "AR", "shared", "before", "now")


def correlation_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often p ≤ .05, before (by permuting the series as they are) and now."""
    for n in (12, 18, 36):
        log = np.expm1(np.linspace(np.log1p(1), np.log1p(359), n))
        for spacing, steps in (("even", np.linspace(0, 359, n)), ("log", log)):
            for design in CORRELATIONS:
                draw, random = curves_over(steps, *design), np.random.default_rng(0)
                before, now = [], []
                for seed in range(runs):
                    x, y = draw(random)
                    before.append(correlate(x, y, resamples=400, seed=seed).pearson.p)
                    now.append(correlate_over_steps(steps, x, y, resamples=400, seed=seed).p)
                rates = (float((np.array(p) <= 0.05).mean()) for p in (before, now))
                yield n, spacing, *design, *rates

"""Simulated series over checkpoints: phases and correlations, for simulations.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.analysis.correlation import correlate, correlate_over_steps, probe_matrix
from lm_eval_trust.analysis.phases import BOTH, FITTING, NONE, UNDECIDED, find_phases
from lm_eval_trust.analysis.trends import both_axes, closest

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]


def autoregression(random: np.random.Generator, n: int, rho: float) -> Floats:
    """Return stationary noise of variance 1, shape (n,)."""
    noise = random.normal(size=n)
    for i in range(1, n):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return noise


def correlations(n: int, rho: float) -> Floats:
    """Return the correlations of that noise, shape (n, n)."""
    places = np.arange(n)
    found: Floats = rho ** np.abs(np.subtract.outer(places, places))
    return found


#: Training steps of n checkpoints.
SPACINGS: dict[str, Callable[[int], Floats]] = {
    "even": lambda n: np.linspace(0, 359, n),
    "log": lambda n: np.expm1(np.linspace(np.log1p(1), np.log1p(359), n)),
}


def sharp_turn(share: Floats, turn: float, fall: float = 0.6) -> Floats:
    """Return a curve that rises by 1 and falls."""
    return np.where(share < turn, share / turn, 1 - fall * (share - turn) / (1 - turn))


def smooth_turn(share: Floats, turn: float) -> Floats:
    """Return a curve that rises by 1 and falls without a kink, by 0.26 if it turns halfway.

    The earlier the turn, the larger the fall: 0.44 at 0.4, and 0.8 at a quarter.
    """
    found: Floats = share / turn * np.exp(1 - share / turn)
    return found


def two_phases(share: Floats) -> Pair:
    """Return I(T, X) that rises by 1 and falls by 0.6, and I(T, Y) that saturates."""
    return sharp_turn(share, 0.5), 1 - np.exp(-4 * share)


def smooth(share: Floats) -> Pair:
    """Return I(T, X) that rises by 1 and falls by 0.44 without a kink, and I(T, Y) as above."""
    return smooth_turn(share, 0.4), 1 - np.exp(-4 * share)


def saturating(share: Floats) -> Pair:
    """Return two curves that rise by nearly 1 and stay there."""
    return 1 - np.exp(-4 * share), 1 - np.exp(-4 * share)


def flat(share: Floats) -> Pair:
    """Return no signal."""
    return 0 * share, 0 * share


def label_only(share: Floats) -> Pair:
    """Return I(T, X) without a signal, and I(T, Y) that rises by 1."""
    return 0 * share, share


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


def early(share: Floats) -> Pair:
    """Return I(T, X) that rises by 1 over the first fifth and stays, and I(T, Y) that saturates."""
    return np.minimum(5 * share, 1), 1 - np.exp(-4 * share)


@dataclass(frozen=True)
class Design:
    """Two series over checkpoints.

    Attributes:
        curves: Their means over the share of the checkpoints.
        rhos: Autocorrelation of the noise of I(T, X) and of I(T, Y).
        spreads: Standard deviations of it.
        turn: Share of the checkpoints at which I(T, X) turns.
    """

    curves: Callable[[Floats], Pair]
    rhos: tuple[float, float]
    spreads: tuple[float, float]
    turn: float = 0.5

    def draw(self, n: int, random: np.random.Generator) -> Pair:
        """Return series of n checkpoints."""
        x, y = (
            curve + spread * autoregression(random, n, rho)
            for curve, rho, spread in zip(
                self.curves(np.linspace(0, 1, n)), self.rhos, self.spreads, strict=True
            )
        )
        return x, y

    def found_if_known(self, x: Floats, y: Floats) -> bool:
        """Whether tests that know turn, autocorrelation and spread of the noise find phases."""
        of_x, of_y = (
            self._slopes(series, rho) / spread
            for series, rho, spread in zip((x, y), self.rhos, self.spreads, strict=True)
        )
        return bool(min(of_x[0], -of_x[1], of_y[0]) >= special.ndtri(0.95))

    def _slopes(self, series: Floats, rho: float) -> Floats:
        """Return both slopes over their standard errors with noise of variance 1, shape (2,)."""
        share = np.linspace(0, 1, len(series))
        root = np.linalg.inv(np.linalg.cholesky(correlations(len(series), rho)))
        sides = np.minimum(share - self.turn, 0), np.maximum(share - self.turn, 0)
        design = root @ np.stack([np.ones_like(share), *sides], axis=1)
        slopes = np.linalg.lstsq(design, root @ series, rcond=None)[0]
        found: Floats = (slopes / np.sqrt(np.diag(np.linalg.inv(design.T @ design))))[1:]
        return found


#: Curves that rise and stay, which are the most often called phases.
STAYING = {
    "saturating, I(T,Y) sd .05, AR .8, sd .3": Design(saturating, (0.8, 0.8), (0.3, 0.05)),
    "saturating, AR .8, sd .3": Design(saturating, (0.8, 0.8), (0.3, 0.3)),
    "up by 1, then level, AR .8, sd .3": Design(level, (0.8, 0.8), (0.3, 0.3)),
    "up over a fifth, then level, AR .8, sd .3": Design(early, (0.8, 0.8), (0.3, 0.3), turn=0.2),
    "up by 1, then level, I(T,Y) AR 0, sd .05": Design(level, (0.8, 0.0), (0.3, 0.05)),
}
#: How many times as many runs rates close to their bound get where they are fast, as these are over
#: 18 checkpoints: over 3,000 runs, a rate of .05 has a standard error of .004.
MORE = 10
PHASES = {
    "no signal, AR 0": Design(flat, (0.0, 0.0), (1.0, 1.0)),
    "no signal, AR .5": Design(flat, (0.5, 0.5), (1.0, 1.0)),
    "no signal, AR .8": Design(flat, (0.8, 0.8), (1.0, 1.0)),
    "noise, I(T,Y) rises, AR 0": Design(label_only, (0.0, 0.0), (1.0, 0.05)),
    "noise, I(T,Y) rises, AR .5": Design(label_only, (0.5, 0.5), (1.0, 0.05)),
    "noise, I(T,Y) rises, AR .8": Design(label_only, (0.8, 0.8), (1.0, 0.05)),
}
PHASES |= STAYING | {
    f"two phases, AR {rho:g}, sd {spread:g}": Design(two_phases, (rho, rho), (spread, spread))
    for spread in (0.05, 0.08, 0.1)
    for rho in (0.0, 0.5, 0.8)
}
PHASES |= {
    f"without a kink, AR {rho:g}, sd {spread:g}": Design(
        smooth, (rho, rho), (spread, spread), turn=0.4
    )
    for spread in (0.05, 0.08)
    for rho in (0.0, 0.5, 0.8)
}
PHASES["up by 1, then level, AR .9, sd .3"] = Design(level, (0.9, 0.9), (0.3, 0.3))


PHASES_HEADER = (
    "design",
    "steps",
    "n",
    "runs",
    f"{BOTH} before",
    BOTH,
    FITTING,
    NONE,
    UNDECIDED,
    "all known",
)


def phase_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often each verdict is given, before, now, and if turn and noise were known."""
    # Curves are drawn over the share of the checkpoints, so over log steps they are those of
    # log(1 + step).
    whole = {"even": lambda n: np.round(SPACINGS["even"](n)), "log": SPACINGS["log"]}
    for (spacing, spaced), n in product(whole.items(), (18, 80)):
        steps = spaced(n)
        for name in (*PHASES, "two random walks"):
            before, known, now = 0, 0, Counter[str]()
            design = PHASES.get(name)
            times = runs * MORE if name in STAYING and n == 18 else runs
            for seed in range(times):
                random = np.random.default_rng(seed)
                x, y = design.draw(n, random) if design else random_walks(n, random)
                before += verdict_before(steps, x, y, random) == BOTH
                now[find_phases(steps, x, y, resamples=400).verdict] += 1
                known += design is not None and design.found_if_known(x, y)
            verdicts = (now[verdict] / times for verdict in (BOTH, FITTING, NONE, UNDECIDED))
            yield (
                name,
                spacing,
                n,
                times,
                before / times,
                *verdicts,
                known / times if design else float("nan"),
            )


def random_walks(n: int, random: np.random.Generator) -> Pair:
    """Return two random walks."""
    x, y = random.normal(size=(2, n)).cumsum(axis=1)
    return x, y


#: Range of the slopes of logistic curves, over the share of the training.
LOGISTIC = {"logistic": (8, 15), "steep logistic": (15, 40)}
#: End of the name of curves whose noise becomes ten times smaller from the first to the last step.
FALLS = "noise falls"


def learning_curve(random: np.random.Generator, steps: Floats, shape: str) -> Floats:
    """Return a curve of random height.

    Smooth ones have a random rate: exponential (within the larger part of the steps, or earlier),
    sigmoid in the log, logistic, or a power. Others change at a random step: at once, from a rise
    to a fall, or at one checkpoint only.
    """
    log, share = np.log1p(steps), steps / steps[-1]
    if shape == "early exponential":
        curve = 1 - np.exp(-share / 10 ** random.uniform(-3, -0.5))
    elif shape.startswith("exponential"):
        rate = np.exp(random.uniform(np.log(steps[-1] / 20), np.log(steps[-1] / 2)))
        curve = 1 - np.exp(-steps / rate)
    elif shape == "sigmoid":
        middle = random.uniform(log[0] + 0.3 * np.ptp(log), log[-1] - 0.1 * np.ptp(log))
        curve = 1 / (1 + np.exp(-(log - middle) / random.uniform(0.3, 1)))
    elif shape in LOGISTIC:
        slope = random.uniform(*LOGISTIC[shape])
        curve = special.expit((share - random.uniform(0.2, 0.8)) * slope)
    elif shape == "dip":
        curve = 1.0 - (np.arange(len(steps)) == random.integers(len(steps)))
    elif shape == "jump":
        curve = 1 / (1 + np.exp(-(share - random.uniform(0.1, 0.9)) / random.uniform(0.01, 0.05)))
    elif shape == "turn":
        turn = random.uniform(0.2, 0.8)
        curve = np.minimum(share / turn, 1) - 0.6 * np.maximum(share - turn, 0) / (1 - turn)
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
            return random_walks(len(steps), random)
        common = autoregression(random, len(steps), rho)
        sizes = spread * (10 ** -(steps / steps[-1]) if shape.endswith(FALLS) else 1)
        x, y = (
            learning_curve(random, steps, shape)
            + sizes
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
    ("jump", 0.003, 0.0, 0.0),
    ("jump", 0.015, 0.0, 0.0),
    ("turn", 0.003, 0.0, 0.0),
    ("turn", 0.015, 0.0, 0.0),
    ("random walk", 1.0, 1.0, 0.0),
    ("logistic", 0.001, 0.0, 0.0),
    ("logistic", 0.003, 0.0, 0.0),
    ("steep logistic", 0.001, 0.0, 0.0),
    ("steep logistic", 0.003, 0.0, 0.0),
    (f"exponential, {FALLS}", 0.03, 0.0, 0.0),
    ("dip", 0.0, 0.0, 0.0),
    ("exponential", 0.03, 0.0, 0.7),
    ("exponential", 0.03, 0.0, 0.9),
    ("sigmoid", 0.03, 0.0, 0.9),
    ("exponential", 0.03, 0.8, 0.9),
)


#: The same over steps that double.
DOUBLING = (
    ("early exponential", 0.0003, 0.0, 0.0),
    ("early exponential", 0.001, 0.0, 0.0),
    ("early exponential", 0.003, 0.0, 0.0),
)


CORRELATIONS_HEADER = ("n", "steps", "curves", "sd", "AR", "shared", "before", "now")


def correlation_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often p ≤ .05, before (by permuting the series as they are) and now."""
    for n in (12, 18, 36):
        evenly = [(name, spaced(n), CORRELATIONS) for name, spaced in SPACINGS.items()]
        for spacing, steps, designs in (*evenly, ("doubling", 2.0 ** np.arange(n), DOUBLING)):
            for design in designs:
                draw, random = curves_over(steps, *design), np.random.default_rng(0)
                before, now = [], []
                for seed in range(runs):
                    x, y = draw(random)
                    before.append(correlate(x, y, resamples=400, seed=seed).pearson.p)
                    now.append(correlate_over_steps(steps, x, y, resamples=400, seed=seed).p)
                rates = (float((np.array(p) <= 0.05).mean()) for p in (before, now))
                yield n, spacing, *design, *rates


@dataclass(frozen=True)
class Factors:
    """Probes and benchmarks of several dimensions that follow one factor, and links of each.

    Attributes:
        loadings: Of each dimension's probe and benchmark, on the factor that all share.
        links: Share of its noise's variance that a dimension's probe and benchmark share alone.
        curves: Shapes of the trends, one drawn for each series.
        rho: Autocorrelation of the noise, whose standard deviation is .03.
    """

    loadings: tuple[float, ...]
    links: tuple[float, ...] = (0.0,)
    curves: tuple[str, ...] = ("exponential", "sigmoid", "power", "logistic")
    rho: float = 0.0

    def draw(self, steps: Floats, random: np.random.Generator) -> Pair:
        """Return probes and benchmarks, each of shape (dimensions, checkpoints)."""
        loadings, links = np.array(self.loadings)[:, None], np.array(self.links)[:, None]
        rests = np.sqrt(1 - loadings**2 - links)

        def noise() -> Floats:
            return np.stack([autoregression(random, len(steps), self.rho) for _ in self.loadings])

        together = loadings * noise()[0] + np.sqrt(links) * noise()
        x, y = (0.03 * (together + rests * noise()) for _ in "xy")
        for side in (x, y):
            for series in side:
                shape = self.curves[random.integers(len(self.curves))]
                if shape.endswith(FALLS):
                    series *= 10 ** -(steps / steps[-1])
                series += learning_curve(random, steps, shape)
        return x, y


_FALLING = (f"exponential, {FALLS}",)
FACTORS = {
    "none, 4": Factors((0, 0, 0, 0)),
    ".95 .95": Factors((0.95, 0.95)),
    ".95 .3": Factors((0.95, 0.3)),
    ".95 .95 .3": Factors((0.95, 0.95, 0.3)),
    ".95 .95 .2 .2": Factors((0.95, 0.95, 0.2, 0.2)),
    ".95 .3 .3 .3": Factors((0.95, 0.3, 0.3, 0.3)),
    ".95 .8 .5 .2": Factors((0.95, 0.8, 0.5, 0.2)),
    ".9 .9 .4 .4": Factors((0.9, 0.9, 0.4, 0.4)),
    ".8 .8 .5 .5": Factors((0.8, 0.8, 0.5, 0.5)),
    ".95 .95 .2 .2, AR .8": Factors((0.95, 0.95, 0.2, 0.2), rho=0.8),
    ".95 .3, noise falls": Factors((0.95, 0.3), curves=_FALLING),
    ".95 .95 .2 .2, noise falls": Factors((0.95, 0.95, 0.2, 0.2), curves=_FALLING),
    "none, one link of .9": Factors((0, 0, 0), (0.9, 0, 0)),
    ".7 .7 .7, one link of .4": Factors((0.7, 0.7, 0.7), (0.4, 0, 0)),
} | {f"none, {n} links of .9": Factors((0,) * n, (0.9,)) for n in (2, 3, 4)}


FACTORS_HEADER = ("n", "common factor", "any before", "overall before", "any", "last", "overall")


def contrasts_before(steps: Floats, x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    """Return the former p: of own pairs' innovations less others', as if none were related."""
    trends, plausible = closest(both_axes(steps), np.concatenate([x, y]))
    orders = np.argsort(random.random((401, len(steps))), axis=1)
    orders[0] = np.arange(len(steps))
    p_values = []
    for degree, rho in plausible:
        values = trends.null(x, y, degree, rho, orders)
        own = np.diagonal(values, axis1=1, axis2=2)
        others = (values.sum(axis=1) + values.sum(axis=2) - 2 * own) / (2 * len(x) - 2)
        contrasts = np.column_stack([own - others, (own - others).mean(axis=1)])
        p_values.append((contrasts >= contrasts[0]).mean(axis=0))
    found: Floats = np.max(p_values, axis=0)
    return found


def factor_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often p ≤ .05 of any dimension (Holm), of the last one, and of all together."""
    for n, (name, design) in product((12, 18, 36), FACTORS.items()):
        steps, random, found = SPACINGS["even"](n), np.random.default_rng(0), []
        for _ in range(runs):
            x, y = design.draw(steps, random)
            *before, overall = contrasts_before(steps, x, y, random)
            sides = [{str(i): series for i, series in enumerate(side)} for side in (x, y)]
            matrix = probe_matrix(steps, *sides, resamples=100)
            now = holm([control.p for control in matrix.controls.values()])
            p_values = (min(holm(before)), overall, min(now), now[-1], matrix.overall.p)
            found.append([p <= 0.05 for p in p_values])
        yield n, name, *np.mean(found, axis=0).tolist()

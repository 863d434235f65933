"""Correlations: of series over checkpoints (arXiv 2402.19465, Figure 5), and of independent pairs.

Anything that grows in training correlates with anything else that grows. Whether two series over
checkpoints have more in common shows in what remains of both without trend and autocorrelation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lm_eval_trust.analysis.trends import Trends, both_axes, closest
from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Fewest checkpoints that can tell a relation from two trends: with ten or eleven, curves of little
#: noise over unevenly spaced steps had p ≤ .05 in up to .12 of simulated runs.
LEAST_CHECKPOINTS = 12
#: Weight of p without the change that adds most to a correlation: with p ≤ .05, what remains must
#: have p ≤ .1.
_WITHOUT_ONE = 0.5


@dataclass(frozen=True)
class StepCorrelation:
    """What two series over checkpoints have in common.

    Attributes:
        p: p of the innovations' correlation, two-sided, which neither a common trend nor a single
            change makes small; 1 where a series is nothing but trend, or has a trend of the largest
            degree that the checkpoints allow, as it may need more.
        innovations: Correlation of what remains without trend and autocorrelation, −1 to 1; NaN
            where nothing remains.
        pearson: Linear correlation of the series as they are: a description, not evidence.
        spearman: The same of their ranks.
        smallest_p: The smallest p that so many permutations can give.
        axis: What the trends that were taken out are polynomials in: ``log(1 + step)`` or ``step``.
        degree: Degree of these: of the plausible ones, that with the largest p.
        rho: Autocorrelation that was taken out, of the same form.
        n: Number of checkpoints.
    """

    p: float
    innovations: float
    pearson: float
    spearman: float
    smallest_p: float
    axis: str
    degree: int
    rho: float
    n: int


def correlate_over_steps(
    steps: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> StepCorrelation:
    """Return the correlation of two series over checkpoints, with a p that trends do not fool.

    Each series is taken as a trend, a polynomial in log(1 + step) or in the step, with noise that
    is a first-order autoregression. Degree (1 to 8, at most half as many as checkpoints) and ρ are
    chosen for each series by the corrected Akaike criterion, and the larger degree and the larger
    ρ are taken for both; of the two axes, that with the smaller sum of both criteria. The statistic
    is the correlation of the innovations, the whitened residuals; its null permutes those of y and
    takes the trend out once more (Freedman and Lane 1983, *Journal of Business and Economic
    Statistics* 1, 292–298). As few checkpoints do not determine ρ, p is the largest over all ρ from
    the chosen one to .99, and with fewer than 16 over the next two degrees as well.

    One checkpoint at which both series dip, or a steep rise of both that no polynomial follows,
    decides such a correlation alone, though it is by chance that they coincide. So p is at least
    half of what it is, at the chosen degree, if the change that adds most to the correlation is
    taken out of both: an innovation at one checkpoint, or a logistic rise over an eighth, a quarter
    or half of the checkpoints.

    Args:
        steps: Training steps of the checkpoints, ascending, shape (k,).
        x: One value for each checkpoint, shape (k,).
        y: The same.
        resamples: Permutations; at least 100.
        seed: Seed of these.

    Raises:
        InputError: Shapes that differ, fewer than twelve checkpoints, steps that do not ascend,
            values that are not finite, a constant series, or too few resamples.
    """
    places, first, second = (np.asarray(values, dtype=np.float64) for values in (steps, x, y))
    _check_steps(places, resamples)
    for name, values in (("x", first), ("y", second)):
        _check_series(name, values, len(places))
    _require_variation(first, second)
    orders = _orders(len(places), resamples, seed)
    return _correlation(both_axes(places), first, second, orders)


def _correlation(axes: Sequence[Trends], x: Floats, y: Floats, orders: Integers) -> StepCorrelation:
    found = []
    trends, plausible = closest(axes, np.stack([x, y]))
    for degree, rho in plausible:
        drawn = trends.null(x[None], y[None], degree, rho, orders)[:, 0, 0]
        p = _share(np.abs(drawn), abs(drawn[0]))
        if degree == plausible[0][0] and not np.isnan(drawn[0]):
            change = trends.largest_change(x, y, degree, rho)
            rest = trends.null(x[None], y[None], degree, rho, orders, without=change)
            others = np.abs(rest[:, 0, 0])
            p = max(p, _WITHOUT_ONE * _share(others, others[0]))
        found.append((p, float(drawn[0]), degree, rho))
    p, value, degree, rho = max(found, key=lambda each: each[0])
    pearson, spearman = raw_coefficients(x, y)
    return StepCorrelation(
        p=1.0 if found[0][2] == trends.largest else p,
        innovations=value,
        pearson=pearson,
        spearman=spearman,
        smallest_p=1 / len(orders),
        axis=trends.axis,
        degree=degree,
        rho=rho,
        n=len(x),
    )


def raw_coefficients(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[float, float]:
    """Return Pearson's and Spearman's coefficient as descriptions, NaN where they are undefined.

    Args:
        x: One value for each pair, shape (k,).
        y: The same.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if len(first) < 2 or not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return np.nan, np.nan
    return _pearson(first, second), _pearson(stats.rankdata(first), stats.rankdata(second))


def _pearson(x: Floats, y: Floats) -> float:
    """Return the correlation of two series that are not constant."""
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def _check_steps(steps: Floats, resamples: int) -> None:
    if steps.ndim != 1 or not np.isfinite(steps).all():
        raise InputError("Steps must be finite numbers, one for each checkpoint.")
    if len(steps) < LEAST_CHECKPOINTS:
        raise InputError(
            f"{len(steps)} checkpoints cannot tell a relation from two trends; give at least "
            f"{LEAST_CHECKPOINTS}."
        )
    if steps[0] < 0 or not (np.diff(steps) > 0).all():
        raise InputError("Steps must be at least 0 and ascend, each checkpoint once.")
    if resamples < 100:
        raise InputError(f"A permutation test needs at least 100 resamples, not {resamples}.")


def _check_series(name: str, values: Floats, n: int) -> None:
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape}; there are {n} checkpoints.")
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds values that are not finite.")


def _require_variation(x: Floats, y: Floats) -> None:
    for name, values in (("x", x), ("y", y)):
        if np.ptp(values) == 0:
            raise InputError(f"{name} is the same everywhere: no correlation is defined.")


@dataclass(frozen=True)
class Control:
    """Whether a dimension's pair of probe and benchmark differs from those of other dimensions.

    Attributes:
        contrast: Correlation of innovations of the dimension's own pair, minus the mean of all
            other pairs that its probe or its benchmark takes part in; NaN without such a pair. A
            description: probes and benchmarks of little noise have large contrasts.
        tetrad: r_Aa r_Bb − r_Ab r_Ba, for its pair A, a the mean over all other pairs B, b: 0 if
            both pairs follow one thing in common. NaN without another pair.
        p: One-sided, of the tetrad being positive.
    """

    contrast: float
    tetrad: float
    p: float


@dataclass(frozen=True)
class ProbeMatrix:
    """Probes × benchmarks over checkpoints.

    Attributes:
        cells: (Dimension of the probe, dimension of the benchmark) → their correlation; ``None``
            where one of them is constant.
        controls: Dimension of a pair → its control.
        overall: The means of contrasts and tetrads, and the p of this mean.
    """

    cells: Mapping[tuple[str, str], StepCorrelation | None]
    controls: Mapping[str, Control]
    overall: Control


def probe_matrix(
    steps: npt.ArrayLike,
    probes: Mapping[str, npt.ArrayLike],
    benchmarks: Mapping[str, npt.ArrayLike],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> ProbeMatrix:
    """Return the correlation of each probe with each benchmark, and the controls of the pairs.

    A probe that follows every benchmark as closely as its own follows training, not its dimension.
    If one thing moves all series, each to any degree and with separate noise, correlations
    of probes with benchmarks have rank one, and every tetrad is 0 (Spearman 1927, *The Abilities of
    Man*). A positive tetrad distinguishes two dimensions. It takes both pairs: a single one that
    moves together is no evidence, and a tetrad doesn't say which of the two has a separate link.

    Trends have one axis for all series, and the largest degree and ρ that one of them needs. p is
    Student's, by a jackknife over checkpoints, and the largest over the same degrees and ρ as in
    :func:`correlate_over_steps`. Series that are constant, or nothing but trend, take no part.

    Args:
        steps: Training steps of the checkpoints, ascending, shape (k,).
        probes: Dimension → one value for each checkpoint, shape (k,).
        benchmarks: The same, higher being better.
        resamples: Permutations; at least 100.
        seed: Seed of these.

    Raises:
        InputError: As :func:`correlate_over_steps`, except for constant series.
    """
    places = np.asarray(steps, dtype=np.float64)
    _check_steps(places, resamples)
    sides: list[dict[str, Floats]] = []
    for kind, given in (("probe", probes), ("benchmark", benchmarks)):
        sides.append({name: np.asarray(values, dtype=np.float64) for name, values in given.items()})
        for name, values in sides[-1].items():
            _check_series(f"The {kind} of {name}", values, len(places))
    axes, orders = both_axes(places), _orders(len(places), resamples, seed)
    cells = {
        (a, b): _correlation(axes, x, y, orders) if np.ptp(x) > 0 and np.ptp(y) > 0 else None
        for a, x in sides[0].items()
        for b, y in sides[1].items()
    }
    defined = [pair for pair, cell in cells.items() if cell and not np.isnan(cell.innovations)]
    moving = [
        {name: values for name, values in side.items() if any(pair[i] == name for pair in defined)}
        for i, side in enumerate(sides)
    ]
    paired = [name for name in moving[0] if name in moving[1] and max(map(len, moving)) > 1]
    undefined = Control(np.nan, np.nan, np.nan)
    controls, overall = _controls(axes, moving, paired) if paired else ({}, undefined)
    named = [name for name in sides[0] if name in sides[1]]
    return ProbeMatrix(cells, {name: controls.get(name, undefined) for name in named}, overall)


def _controls(
    axes: Sequence[Trends], sides: Sequence[Mapping[str, Floats]], paired: Sequence[str]
) -> tuple[dict[str, Control], Control]:
    rows, columns = ([list(side).index(name) for name in paired] for side in sides)
    x, y = (np.stack(list(side.values())) for side in sides)
    trends, plausible = closest(axes, np.concatenate([x, y]))
    found = []
    for degree, rho in plausible:
        values = trends.jackknifed(x, y, degree, rho)
        contrasts, tetrads = _contrasts(values[0], rows, columns), _tetrads(values, rows, columns)
        p_values = _jackknife_p(tetrads, x.shape[1] - degree - 2)
        if plausible[0][0] == trends.largest:
            p_values = np.maximum(p_values, 1.0)
        found.append(list(map(Control, contrasts, tetrads[0].tolist(), p_values.tolist())))
    *worst, overall = (max(each, key=lambda c: c.p) for each in zip(*found, strict=True))
    return dict(zip(paired, worst, strict=True)), overall


def _contrasts(values: Floats, rows: Sequence[int], columns: Sequence[int]) -> list[float]:
    """Return own pairs less the mean of others, and the mean of all these.

    Args:
        values: Of each pair, shape (x's, y's).
        rows: Row of each own pair.
        columns: Its column.
    """
    own = values[rows, columns]
    others = values[rows].sum(axis=1) + values[:, columns].sum(axis=0) - 2 * own
    found = own - others / (sum(values.shape) - 2)
    return [*found.tolist(), float(found.mean())]


def _tetrads(values: Floats, rows: Sequence[int], columns: Sequence[int]) -> Floats:
    """Return each own pair's mean tetrad, and the mean of all these, shape (m, pairs + 1).

    Args:
        values: Of each pair, shape (m, x's, y's).
        rows: Row of each own pair.
        columns: Its column.
    """
    crossed = values[:, rows][:, :, columns]
    own = np.diagonal(crossed, axis1=1, axis2=2)
    tetrads = own[:, :, None] * own[:, None] - crossed * crossed.transpose(0, 2, 1)
    means = tetrads.sum(axis=2) / (len(rows) - 1 or np.nan)
    return np.column_stack([means, means.mean(axis=1)])


def _jackknife_p(values: Floats, freedom: int) -> Floats:
    """Return one-sided p by Student's t with a jackknife's standard errors.

    Args:
        values: Of all checkpoints, then without each, shape (1 + k, statistics).
        freedom: Degrees of freedom.
    """
    without = values[1:]
    errors = np.sqrt((len(without) - 1) * without.var(axis=0))
    # An error of 0 is one of rounding.
    found: Floats = stats.t.sf(values[0] / np.maximum(errors, 1e-12), freedom)
    return found


def _orders(n: int, resamples: int, seed: int) -> Integers:
    """Return the identity and random permutations, shape (1 + resamples, n)."""
    orders = np.tile(np.arange(n), (1 + resamples, 1))
    np.random.default_rng(seed).permuted(orders[1:], axis=1, out=orders[1:])
    return orders


def _share(drawn: Floats, value: float) -> float:
    """Return the share that reaches the value, 1 if it is undefined."""
    return 1.0 if np.isnan(value) else float((drawn >= value - 1e-12).mean())


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient of independent pairs.

    Attributes:
        value: −1 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p of a two-sided permutation test.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Correlation:
    """The correlation of two series whose pairs are independent of each other.

    Attributes:
        pearson: Linear correlation.
        spearman: Correlation of ranks.
        n: Number of pairs.
    """

    pearson: Coefficient
    spearman: Coefficient
    n: int


def correlate(
    x: npt.ArrayLike, y: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> Correlation:
    """Return both correlations of pairs that are exchangeable, as checkpoints of a run are not.

    Intervals are Fisher's, with a standard error of 1 / √(n − 3) on the scale of artanh r, and for
    ranks √((1 + r² / 2) / (n − 3)) (Bonett and Wright 2000, *Psychometrika* 65, 23–28). Ranks that
    all agree count as half a step short of it.

    Args:
        x: One value for each pair, shape (k,).
        y: The same.
        resamples: Permutations.
        seed: Seed of these.

    Raises:
        InputError: Shapes that differ, fewer than four pairs, values that are not finite, or a
            constant series.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"Expected two series of one length, got {first.shape}, {second.shape}.")
    if len(first) < 4:
        raise InputError(f"A correlation over {len(first)} pairs says nothing; give at least 4.")
    for name, values in (("x", first), ("y", second)):
        _check_series(name, values, len(first))
    _require_variation(first, second)
    n, orders = len(first), _orders(len(first), resamples, seed)
    of_ranks = _pearson(stats.rankdata(first), stats.rankdata(second))
    # The next smaller coefficient of untied ranks is 12 / (n³ − n) below 1.
    inner = float(np.clip(of_ranks, -1 + 6 / (n**3 - n), 1 - 6 / (n**3 - n)))
    ranks = stats.rankdata(first), stats.rankdata(second)
    value = _pearson(first, second)
    return Correlation(
        Coefficient(value, *_fisher(value, 1 / (n - 3)), _permutation_p(first, second, orders)),
        Coefficient(
            of_ranks,
            *_fisher(inner, (1 + inner**2 / 2) / (n - 3)),
            _permutation_p(*ranks, orders),
        ),
        n,
    )


def _fisher(value: float, variance: float) -> tuple[float, float]:
    if abs(value) == 1:
        return value, value
    around = np.arctanh(value) + stats.norm.ppf([0.025, 0.975]) * np.sqrt(variance)
    low, high = np.tanh(around)
    return float(low), float(high)


def _permutation_p(x: Floats, y: Floats, orders: Integers) -> float:
    drawn = np.abs((y - y.mean())[orders] @ (x - x.mean()))
    return float((drawn >= drawn[0] * (1 - 1e-9)).mean())

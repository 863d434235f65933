"""Fitting and compression phases: where I(T, X) turns, and whether that is beyond the noise.

After Shwartz-Ziv and Tishby 2017, as arXiv 2402.19465, section 4 reads it: first I(T, X) and
I(T, Y) rise together, then I(T, X) falls while I(T, Y) continues to rise.

Neighbouring checkpoints of one run resemble each other, so that noise alone rises and falls. It is
taken as a first-order autoregression, and its coefficient ρ as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
BOTH, FITTING, NONE = "fitting→compression", "fitting only", "none"
UNDECIDED = "undecided"
LEVEL = 0.05
#: Power from which a phase that was not shown counts as absent.
POWER = 0.8
#: Checkpoints on each side of a turn, at least, so that both parts have a slope.
_MARGIN = 2
_MOST_KNOTS = 40
#: Autocorrelations of the noise, taken as equally likely beforehand: 0 to .95 in even steps of
#: artanh ρ, so that strong ones are weighed with care.
_RHOS = tuple(float(rho) for rho in np.tanh(np.linspace(0, np.arctanh(0.95), 8)))
#: A part of a line is straight over log(1 + step) or over the step, whichever fits better.
_AXES: tuple[Callable[[Floats], Floats], ...] = (np.log1p, np.asarray)
#: Below this, a residual of a series of range 1 is rounding.
_TINY = 1e-18


@dataclass(frozen=True)
class Slope:
    """A slope, tested against noise that is autocorrelated.

    Attributes:
        value: Mean change per e-fold of steps over its part.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_rise: One-sided p of the slope being positive.
        p_fall: Of its being negative.
    """

    value: float
    low: float
    high: float
    p_rise: float
    p_fall: float

    @property
    def direction(self) -> int:
        """1 or −1 if a rise or a fall is shown at :data:`LEVEL`, else 0."""
        return int(self.p_rise <= LEVEL) - int(self.p_fall <= LEVEL)


@dataclass(frozen=True)
class Phases:
    """The phases of one layer.

    Attributes:
        verdict: ``fitting→compression``, ``fitting only``, ``none`` or ``undecided``.
        p: Of ``fitting→compression``: the largest p of its three slopes, as all have to be shown.
        p_fitting: Likewise of the fitting phase, with its two slopes.
        rho: Autocorrelation of I(T, X)'s noise, the mean over what is likely.
        rho_label: Likewise of I(T, Y)'s.
        turn: Step at which I(T, X) turns, by the best-fitting broken line.
        turn_low: Lower end of its 95 % interval.
        turn_high: Upper end.
        input_before: Slope of I(T, X) before the turn.
        input_after: After it.
        label_before: Slope of I(T, Y) before the same turn.
        label_after: After it.
    """

    verdict: str
    p: float
    p_fitting: float
    rho: float
    rho_label: float
    turn: float
    turn_low: float
    turn_high: float
    input_before: Slope
    input_after: Slope
    label_before: Slope
    label_after: Slope


def find_phases(
    steps: npt.ArrayLike,
    i_tx: npt.ArrayLike,
    i_ty: npt.ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Phases:
    """Return the phases of a layer over checkpoints.

    A continuous line with one knot, each part straight over log(1 + step) or over the step, is
    fitted to I(T, X) by least squares; I(T, Y) gets the same knot. Each slope, divided by its
    standard error, is held against simulated series whose slope there is 0 and whose noise is a
    first-order autoregression; fit and choices are made anew for each of them. A few checkpoints
    do not determine ρ: the simulated series have every ρ of a grid from 0 to .95, as often as the
    first autocorrelation of the residuals makes it likely (a posterior predictive p).

    - ``fitting→compression``: both rise before the turn, I(T, X) falls after it, each with a
      one-sided p ≤ .05, and I(T, Y) is not shown to fall.
    - ``fitting only``: both rise before the turn and I(T, X) is not shown to fall after it, though
      a fall by half of its rise would have been shown with a power of 80 %.
    - ``none``: I(T, X) or I(T, Y) is shown to fall before the turn, or I(T, Y) after it together
      with I(T, X); or one of them is not shown to rise, though a rise by half of its range, up to
      the middle checkpoint, would have been shown with a power of 80 %.
    - ``undecided``: else. The series are too short or too noisy, or their noise is too
      autocorrelated, to tell.

    Args:
        steps: Training steps of the checkpoints, ascending, shape (k,).
        i_tx: I(T, X) at each, shape (k,).
        i_ty: I(T, Y) at each, shape (k,).
        resamples: Simulated series; at least 100.
        seed: Of these.

    Raises:
        InputError: Fewer than six checkpoints, shapes that differ, steps that do not ascend,
            values that are not finite, or too few resamples.
    """
    places, x, y = (np.asarray(values, dtype=np.float64) for values in (steps, i_tx, i_ty))
    _check(places, x, y)
    if resamples < 100:
        raise InputError(f"Phases need at least 100 resamples, not {resamples}.")
    runs = _runs(places.tobytes(), resamples, seed)
    of_x = _Side(runs, x)
    of_y = _Side(runs, y, of_x.knot)
    low, high = np.quantile(places[of_x.knots_again()], [0.025, 0.975])
    p_fitting = max(of_x.before.p_rise, of_y.before.p_rise)
    return Phases(
        verdict=_verdict(of_x, of_y),
        p=max(p_fitting, of_x.after.p_fall),
        p_fitting=p_fitting,
        rho=of_x.rho,
        rho_label=of_y.rho,
        turn=float(places[of_x.knot]),
        turn_low=float(low),
        turn_high=float(high),
        input_before=of_x.before,
        input_after=of_x.after,
        label_before=of_y.before,
        label_after=of_y.after,
    )


def enough_resamples(tests: int) -> int:
    """Return as many resamples as a p needs to stay below .05 when it is corrected for so many."""
    return max(1000, 40 * tests)


def correct_phases(found: Sequence[Phases]) -> list[Phases]:
    """Return the phases of several layers and dimensions with p corrected for their number (Holm).

    Phases that are not shown any more are ``undecided``.

    Args:
        found: One for each layer and dimension that was looked at.
    """
    p_values = zip(holm([f.p for f in found]), holm([f.p_fitting for f in found]), strict=True)
    corrected = []
    for phases, (p, p_fitting) in zip(found, p_values, strict=True):
        needed = {BOTH: p, FITTING: p_fitting}.get(phases.verdict, 0.0)
        verdict = phases.verdict if needed <= LEVEL else UNDECIDED
        corrected.append(replace(phases, verdict=verdict, p=p, p_fitting=p_fitting))
    return corrected


def _verdict(x: _Side, y: _Side) -> str:
    falls = x.after.direction == -1
    if -1 in (x.before.direction, y.before.direction) or (falls and y.after.direction == -1):
        return NONE
    if x.before.direction == y.before.direction == 1:
        if falls:
            return BOTH
        return FITTING if x.would_show_fall() else UNDECIDED
    unseen = [side for side in (x, y) if side.before.direction != 1]
    return NONE if any(side.would_show_rise() for side in unseen) else UNDECIDED


class _Runs:
    """Broken lines over the steps, and simulated noise around them for each ρ.

    All layers and dimensions of a run have the same steps, so this is made once.
    """

    def __init__(self, steps: Floats, resamples: int, seed: int) -> None:
        self.axis = np.log1p(steps)
        parts = [
            (_part(steps[: k + 1], before), _part(steps[k:], after), k)
            for k in _knots(len(steps))
            for before in _AXES
            for after in _AXES
        ]
        #: Level at the knot, slope before it and after it, shape (lines, k, 3).
        self.designs = np.zeros((len(parts), len(steps), 3))
        self.designs[:, :, 0] = 1.0
        for design, (before, after, knot) in zip(self.designs, parts, strict=True):
            design[: knot + 1, 1] = before - before[-1]
            design[knot:, 2] = after - after[0]
        #: Position of each line's knot.
        self.knots = np.array([knot for _, _, knot in parts])
        self.solve = np.linalg.pinv(self.designs)
        grams = np.linalg.inv(self.designs.transpose(0, 2, 1) @ self.designs)
        #: Standard errors of both slopes for a residual variance of 1, shape (lines, 2).
        self.errors = np.sqrt(np.diagonal(grams, axis1=1, axis2=2)[:, 1:])
        self._bases = np.linalg.qr(self.designs)[0]
        innovations = np.random.default_rng(seed).normal(size=(resamples, len(steps)))
        #: Series of variance 1, shape (ρ's, resamples, k).
        self.noise = np.stack([_autoregression(innovations, rho) for rho in _RHOS])
        self._known: dict[int | None, Floats] = {}

    def lines(self, knot: int | None) -> slice:
        """Return the lines with that knot, or all."""
        if knot is None:
            return slice(0, len(self.designs))
        found = np.flatnonzero(self.knots == knot)
        return slice(int(found[0]), int(found[-1]) + 1)

    def fit(self, series: Floats, knot: int | None) -> tuple[Integers, Floats]:
        """Return each series' best line and its mean squared residual, shape (series,).

        Args:
            series: Shape (series, k).
            knot: Position of the knot, or ``None`` to search it as well.
        """
        chosen = self.lines(knot)
        bases = self._bases[chosen]
        lines, k, columns = bases.shape
        stacked = bases.transpose(1, 0, 2).reshape(k, lines * columns)
        explained = ((series @ stacked) ** 2).reshape(len(series), lines, columns).sum(axis=2)
        best = explained.argmax(axis=1)
        squares = (series**2).sum(axis=1) - explained[np.arange(len(series)), best]
        # A knot that is searched is a free number as well.
        free = columns + (knot is None)
        return best + chosen.start, np.maximum(squares, 0) / max(1, k - free)

    def ratios(self, series: Floats, knot: int | None) -> Floats:
        """Return both slopes divided by their standard errors, shape (series, 2)."""
        lines, variance = self.fit(series, knot)
        slopes = np.einsum("sck,sk->sc", self.solve[lines, 1:], series)
        spread = np.sqrt(variance)[:, None] * self.errors[lines]
        found: Floats = slopes / np.maximum(spread, _TINY)
        return found

    def autocorrelation(self, series: Floats, lines: Integers) -> Floats:
        """Return the first autocorrelation of the residuals of lines, shape (series,)."""
        coefficients = np.einsum("sck,sk->sc", self.solve[lines], series)
        rest = series - np.einsum("skc,sc->sk", self.designs[lines], coefficients)
        products, squares = (rest[:, 1:] * rest[:, :-1]).sum(axis=1), (rest**2).sum(axis=1)
        found: Floats = products / np.maximum(squares, _TINY)
        return found

    def weights(self, observed: float, knot: int | None) -> tuple[Floats, Floats]:
        """Return how likely each ρ is, and the mean squared residual of its noise, shape (ρ's,).

        Args:
            observed: First autocorrelation of a series' residuals.
            knot: As in :meth:`fit`.
        """
        if knot not in self._known:
            found = []
            for noise in self.noise:
                lines, variance = self.fit(noise, knot)
                drawn = self.autocorrelation(noise, lines)
                found.append((float(drawn.mean()), float(drawn.std()), float(variance.mean())))
            self._known[knot] = np.array(found).T
        mean, spread, variance = self._known[knot]
        logs = -(((observed - mean) / spread) ** 2) / 2 - np.log(spread)
        likely = np.exp(logs - logs.max())
        return likely / likely.sum(), variance


@lru_cache(maxsize=4)
def _runs(steps: bytes, resamples: int, seed: int) -> _Runs:
    return _Runs(np.frombuffer(steps), resamples, seed)


def _knots(n: int) -> Integers:
    """Return the checkpoints where a line may turn: all, or so many, evenly spaced."""
    inner = n - 2 * _MARGIN
    chosen = np.linspace(0, inner - 1, min(inner, _MOST_KNOTS))
    found: Integers = _MARGIN + np.round(chosen).astype(np.int64)
    return found


def _part(steps: Floats, axis: Callable[[Floats], Floats]) -> Floats:
    """Return an axis over a part, as long as log(1 + step) is over it."""
    log, places = np.log1p(steps), axis(steps)
    scaled: Floats = places * (log[-1] - log[0]) / (places[-1] - places[0])
    return scaled


class _Side:
    """I(T, X), whose knot is searched, or I(T, Y) with the same knot."""

    def __init__(self, runs: _Runs, values: Floats, knot: int | None = None) -> None:
        self._runs, self._given = runs, knot
        # Centred and of range 1, so that what is tiny is rounding.
        self._size = float(np.ptp(values)) or 1.0
        self._values = (values - values.mean()) / self._size
        lines, variance = runs.fit(self._values[None], knot)
        self._best = int(lines[0])
        self.knot = int(runs.knots[self._best])
        self._variance = max(float(variance[0]), _TINY)
        observed = runs.autocorrelation(self._values[None], lines)[0]
        weights, of_noise = runs.weights(float(observed), knot)
        self.rho = float(weights @ np.array(_RHOS))
        series = np.arange(runs.noise.shape[1])
        drawn = np.searchsorted(np.cumsum(weights)[:-1], (series + 0.5) / len(series))
        scale = np.sqrt(self._variance / of_noise[drawn])
        self._noise = runs.noise[drawn, series] * scale[:, None]
        #: Ratios where the true slope before or after the turn is 0, shape (resamples, 2).
        self._null = np.stack([self._ratios(self._flat(part))[:, part] for part in (0, 1)], axis=1)
        self.before, self.after = (self._slope(part) for part in (0, 1))

    def knots_again(self) -> Integers:
        """Return the positions of the knots of series like this one, shape (resamples,)."""
        runs = self._runs
        line = runs.designs[self._best] @ (runs.solve[self._best] @ self._values)
        found: Integers = runs.knots[runs.fit(line + self._noise, self._given)[0]]
        return found

    def would_show_fall(self) -> bool:
        """Whether a fall by half of the rise has a power of 80 %."""
        axis = self._runs.axis
        coefficients = self._runs.solve[self._best] @ self._values
        rise = coefficients[1] * (axis[self.knot] - axis[0])
        coefficients[2] = -rise / 2 / (axis[-1] - axis[self.knot])
        drawn = self._ratios(self._runs.designs[self._best] @ coefficients)[:, 1]
        return float((drawn <= np.quantile(self._null[:, 1], LEVEL)).mean()) >= POWER

    def would_show_rise(self) -> bool:
        """Whether a rise by half of the range, up to the middle checkpoint, has that power."""
        axis, reach = self._runs.axis, np.ptp(self._values)
        if reach == 0:
            return True
        middle = axis[len(axis) // 2]
        ramp = np.minimum((axis - axis[0]) / (middle - axis[0]), 1) * reach / 2
        drawn = self._ratios(ramp)[:, 0]
        return float((drawn >= np.quantile(self._null[:, 0], 1 - LEVEL)).mean()) >= POWER

    def _flat(self, part: int) -> Floats:
        """Return the best line whose slope before (0) or after the turn (1) is 0."""
        designs = np.delete(self._runs.designs[self._runs.lines(self._given)], 1 + part, axis=2)
        bases = np.linalg.qr(designs)[0]
        explained = np.einsum("tkc,k->tc", bases, self._values)
        best = (explained**2).sum(axis=1).argmax()
        line: Floats = bases[best] @ explained[best]
        return line

    def _ratios(self, line: Floats) -> Floats:
        return self._runs.ratios(line + self._noise, self._given)

    def _slope(self, part: int) -> Slope:
        value = float(self._runs.solve[self._best, 1 + part] @ self._values)
        error = float(np.sqrt(self._variance) * self._runs.errors[self._best, part])
        null, size = self._null[:, part], self._size
        low, high = value - error * np.quantile(null, [0.975, 0.025])
        p_rise, p_fall = (
            float((1 + (sign * null >= sign * value / error).sum()) / (1 + len(null)))
            for sign in (1, -1)
        )
        return Slope(value * size, float(low * size), float(high * size), p_rise, p_fall)


def _autoregression(innovations: Floats, rho: float) -> Floats:
    """Return stationary series of variance 1, shape (series, k)."""
    series: Floats = innovations.copy()
    for i in range(1, series.shape[1]):
        series[:, i] = rho * series[:, i - 1] + np.sqrt(1 - rho**2) * innovations[:, i]
    return series


def _check(axis: Floats, x: Floats, y: Floats) -> None:
    if axis.ndim != 1 or not axis.shape == x.shape == y.shape:
        raise InputError(f"Expected three series of one length: {axis.shape}, {x.shape}, {y.shape}")
    if len(axis) < 2 * _MARGIN + 2:
        raise InputError(f"Phases need at least {2 * _MARGIN + 2} checkpoints, not {len(axis)}.")
    if not np.isfinite(axis).all() or not (np.diff(axis) > 0).all() or axis[0] < 0:
        raise InputError("Steps must be finite numbers of at least 0 and ascend.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("I(T, X) and I(T, Y) must be finite.")

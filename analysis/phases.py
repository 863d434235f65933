"""Fitting and compression phases: where I(T, X) turns, and whether that is beyond the noise.

After Shwartz-Ziv and Tishby 2017, as arXiv 2402.19465, section 4 reads it: first I(T, X) and
I(T, Y) rise together, then I(T, X) falls while I(T, Y) continues to rise.

Neighbouring checkpoints of one run resemble each other, so noise alone rises and falls. It is
taken as a first-order autoregression, whose coefficient ρ cannot be known from a few checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.broken_lines import MARGIN, RHOS, BrokenLines, broken_lines, whiten
from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
BOTH, FITTING, NONE = "fitting→compression", "fitting only", "none"
UNDECIDED = "undecided"
LEVEL = 0.05
#: Power from which a phase that was not shown counts as absent.
POWER = 0.8
#: Parts in which series are simulated for a power.
_PARTS = 8


@dataclass(frozen=True)
class Slope:
    """A slope, tested against noise that is autocorrelated.

    Attributes:
        value: Mean change per e-fold of steps over its part.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_rise: One-sided p of the slope being positive.
        p_fall: p of a fall.
    """

    value: float
    low: float
    high: float
    p_rise: float
    p_fall: float

    @property
    def direction(self) -> int:
        """1 or −1 if a rise or a fall is shown at :data:`LEVEL`, otherwise 0."""
        return int(self.p_rise <= LEVEL) - int(self.p_fall <= LEVEL)


@dataclass(frozen=True)
class Phases:
    """The phases of one layer.

    Attributes:
        verdict: ``fitting→compression``, ``fitting only``, ``none`` or ``undecided``.
        p: p of ``fitting→compression``: the largest p of its three slopes, as all have to be shown.
        p_fitting: The same of the fitting phase, with its two slopes.
        rho: Autocorrelation of I(T, X)'s noise, the mean over what is likely; no p depends on it.
        rho_label: The same of I(T, Y)'s.
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

    A continuous line with one knot is fitted to I(T, X), and one with the same knot to I(T, Y).
    Each part is straight, or a parabola that is level at the knot, over log(1 + step) or over the
    step; the noise is a first-order autoregression. The evidence for a rise before the turn is the
    likelihood of the best line that has it over that of the best that rises nowhere; for a fall
    after it, over that of the best that has it not; each is the mean over ρ from 0 to .9. p is the
    share of simulated series with as much evidence, whose slope there is 0 and whose noise has a ρ
    of .8. Weaker autocorrelation gives as much evidence less often, so p holds for ρ up to .8.

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
        resamples: Simulated series for a p; at least 100.
        seed: Seed of these and of all others.

    Raises:
        InputError: Fewer than six checkpoints, shapes that differ, steps that do not ascend,
            values that are not finite, or too few resamples.
    """
    places, x, y = (np.asarray(values, dtype=np.float64) for values in (steps, i_tx, i_ty))
    _check(places, x, y)
    if resamples < 100:
        raise InputError(f"Phases need at least 100 resamples, not {resamples}.")
    lines = broken_lines(places.tobytes(), resamples, seed)
    of_x = _Side(lines, x)
    of_y = _Side(lines, y, of_x.knot)
    turns = places[of_x.turns()]
    p_fitting = max(of_x.before.p_rise, of_y.before.p_rise)
    return Phases(
        verdict=_verdict(of_x, of_y),
        p=max(p_fitting, of_x.after.p_fall),
        p_fitting=p_fitting,
        rho=of_x.rho,
        rho_label=of_y.rho,
        turn=float(places[of_x.knot]),
        turn_low=float(turns.min()),
        turn_high=float(turns.max()),
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


class _Side:
    """I(T, X), whose knot is searched, or I(T, Y) with the same knot."""

    def __init__(self, lines: BrokenLines, values: Floats, knot: int | None = None) -> None:
        self._lines, self._given = lines, knot
        # Centred and of range 1, so that what is tiny is rounding.
        self._size = float(np.ptp(values)) or 1.0
        self._values = (values - values.mean()) / self._size
        self._fit = lines.fit(self._values[None], knot)
        self._evidence = np.array(lines.evidence(self._values[None], knot))
        self._best = int(self._fit.lines[0])
        self.knot = int(lines.knots[self._best])
        self._nulls = lines.nulls(knot)
        self._weights = self._likely(values)
        self._weights /= self._weights.sum()
        self.rho = float(self._weights @ np.array(RHOS))
        self.before, self.after = (self._slope(part) for part in (0, 1))

    def _likely(self, values: Floats) -> Floats:
        """Return how likely the series makes each ρ, by lines that turn anywhere, shape (ρ's,).

        What a wrong turn leaves looks autocorrelated. A constant says nothing of it.
        """
        if np.ptp(values) == 0:
            return np.ones(len(RHOS))
        free = self._fit if self._given is None else self._lines.fit(self._values[None], None)
        return self._lines.nulls(None).likely(free.rho[0])

    def turns(self) -> Integers:
        """Return the positions of the knots whose lines are nearly as likely as the best."""
        knots, likelihood = self._lines.likelihood_of_knots(self._values[None])
        freedom = max(1, len(self._values) - 5)
        reach = special.stdtrit(freedom, 0.975) ** 2 / freedom
        least = self._fit.likelihood.max() - len(self._values) / 2 * np.log1p(reach)
        found: Integers = knots[likelihood >= least]
        return found

    def would_show_fall(self) -> bool:
        """Whether a fall by half of the rise has a power of 80 %."""
        axis, coefficients = self._lines.axis, self._coefficients()
        rise = coefficients[1] * (axis[self.knot] - axis[0])
        coefficients[2] = -rise / 2 / (axis[-1] - axis[self.knot])
        return self._shows(self._lines.designs[self._best] @ coefficients, 1)

    def would_show_rise(self) -> bool:
        """Whether a rise by half of the range, up to the middle checkpoint, has that power."""
        reach, count = np.ptp(self._values), len(self._values)
        if reach == 0:
            return True
        return self._shows(np.minimum(np.arange(count) / (count // 2), 1) * reach / 2, 0)

    def _shows(self, line: Floats, part: int) -> bool:
        noise = self._lines.noise
        series = np.arange(noise.shape[1])
        drawn = np.searchsorted(np.cumsum(self._weights)[:-1], (series + 0.5) / len(series))
        scale = np.sqrt(self._fit.variance[drawn, 0])
        shown, left = 0, len(series)
        # Each part has all ρ, and the first few mostly decide.
        for some in (series[i::_PARTS] for i in range(_PARTS)):
            curves = line + noise[drawn[some], some] * scale[some, None]
            evidence = self._lines.evidence(curves, self._given)[part][part]
            shown += int((self._nulls.p(part, evidence) <= LEVEL).sum())
            left -= len(some)
            if shown >= POWER * len(series) or shown + left < POWER * len(series):
                break
        return shown >= POWER * len(series)

    def _coefficients(self) -> Floats:
        """Return level and slopes of the best line, by generalised least squares."""
        rho = RHOS[self._fit.likeliest[0]]
        design = whiten(self._lines.designs[self._best].T, rho).T
        found: Floats = np.linalg.lstsq(design, whiten(self._values[None], rho)[0], rcond=None)[0]
        return found

    def _slope(self, part: int) -> Slope:
        value, ratio = float(self._coefficients()[1 + part]), float(self._fit.ratios[part, 0])
        error = abs(value / ratio) if ratio else 0.0
        half = error * self._quantile(self._nulls.ratios[:, part])
        p_rise, p_fall = self._nulls.p(part, self._evidence[:, part, 0]).tolist()
        low, high = ((value + sign * half) * self._size for sign in (-1, 1))
        return Slope(value * self._size, low, high, p_rise, p_fall)

    def _quantile(self, ratios: Floats) -> float:
        """Return the 95 % quantile of absolute ratios, by how likely each ρ is."""
        order = ratios.ravel().argsort()
        total = np.cumsum(np.repeat(self._weights, ratios.shape[1])[order])
        return float(ratios.ravel()[order][np.searchsorted(total, 0.95 * total[-1])])


def _check(axis: Floats, x: Floats, y: Floats) -> None:
    if axis.ndim != 1 or not axis.shape == x.shape == y.shape:
        raise InputError(f"Expected three series of one length: {axis.shape}, {x.shape}, {y.shape}")
    if len(axis) < 2 * MARGIN + 2:
        raise InputError(f"Phases need at least {2 * MARGIN + 2} checkpoints, not {len(axis)}.")
    if not np.isfinite(axis).all() or not (np.diff(axis) > 0).all() or axis[0] < 0:
        raise InputError("Steps must be finite numbers of at least 0 and ascend.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("I(T, X) and I(T, Y) must be finite.")

"""Fitting and compression phases: where I(T, X) turns, and whether that is beyond the noise.

After Shwartz-Ziv and Tishby 2017, as arXiv 2402.19465, section 4 reads it: first I(T, X) and
I(T, Y) rise together, then I(T, X) falls while I(T, Y) continues to rise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.float64]
BOTH, FITTING, NONE = "fitting→compression", "fitting only", "none"
#: Checkpoints on each side of a turn, at least, so that both parts have a slope.
_MARGIN = 2


@dataclass(frozen=True)
class Slope:
    """A slope with its 95 % interval.

    Attributes:
        value: Change per unit of the axis.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """1 or −1 if the interval lies on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Phases:
    """The phases of one layer.

    Attributes:
        verdict: ``fitting→compression``, ``fitting only`` or ``none``.
        turn: Step at which I(T, X) turns, by the best-fitting broken line.
        turn_low: Lower end of its 95 % interval.
        turn_high: Upper end.
        input_before: Slope of I(T, X) before the turn, per e-fold of steps.
        input_after: After it.
        label_before: Slope of I(T, Y) before the same turn.
        label_after: After it.
    """

    verdict: str
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

    A continuous broken line over log(1 + step) is fitted to I(T, X) by least squares, with its
    knot at the best checkpoint; I(T, Y) gets the same knot. Intervals are by bootstrap of the
    residuals, which searches the knot of I(T, X) again each time. A rise or fall counts if its
    interval excludes 0. The verdict is ``fitting→compression`` if both rise before the turn,
    I(T, X) falls after it and I(T, Y) does not; ``fitting only`` if both rise before the turn and
    I(T, X) does not fall after it; else ``none``.

    Args:
        steps: Training steps of the checkpoints, ascending, shape (k,).
        i_tx: I(T, X) at each, shape (k,).
        i_ty: I(T, Y) at each, shape (k,).
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: Fewer than six checkpoints, shapes that differ, steps that do not ascend, or
            values that are not finite.
    """
    places, x, y = (np.asarray(values, dtype=np.float64) for values in (steps, i_tx, i_ty))
    _check(places, x, y)
    solvers = _Solvers(np.log1p(places))
    knot = solvers.best_knot(x[None])[0]
    draws_x = solvers.resample(x, knot, resamples, np.random.default_rng(seed))
    draws_y = solvers.resample(y, knot, resamples, np.random.default_rng(seed + 1))
    knots = solvers.best_knot(draws_x)
    low, high = np.quantile(places[knots + _MARGIN], [0.025, 0.975])
    x_before, x_after = _slopes(solvers, x, knot, draws_x, knots)
    y_before, y_after = _slopes(solvers, y, knot, draws_y, np.full(resamples, knot))
    return Phases(
        verdict=_verdict(x_before, x_after, y_before, y_after),
        turn=float(places[knot + _MARGIN]),
        turn_low=float(low),
        turn_high=float(high),
        input_before=x_before,
        input_after=x_after,
        label_before=y_before,
        label_after=y_after,
    )


class _Solvers:
    """Least-squares fits of broken lines with a knot at each inner checkpoint."""

    def __init__(self, axis: Floats) -> None:
        knots = axis[_MARGIN : len(axis) - _MARGIN]
        #: Designs (knots, k, 3): level at the knot, slope before it, slope after it.
        self._designs = np.stack(
            [
                np.stack([np.ones_like(axis), np.minimum(axis - t, 0), np.maximum(axis - t, 0)], 1)
                for t in knots
            ]
        )
        self._solve = np.linalg.pinv(self._designs)

    def best_knot(self, values: Floats) -> npt.NDArray[np.int64]:
        """Return each series' knot with the smallest residual, shape (series,)."""
        coefficients = np.einsum("tck,sk->stc", self._solve, values)
        fitted = np.einsum("tkc,stc->stk", self._designs, coefficients)
        best: npt.NDArray[np.int64] = ((values[:, None] - fitted) ** 2).sum(axis=2).argmin(axis=1)
        return best

    def slopes(self, values: Floats, knots: npt.NDArray[np.int64]) -> Floats:
        """Return slopes before and after each series' knot, shape (series, 2)."""
        found: Floats = np.einsum("sck,sk->sc", self._solve[knots], values)[:, 1:]
        return found

    def resample(
        self, values: Floats, knot: int, number: int, random: np.random.Generator
    ) -> Floats:
        """Return series made of the fit and resampled residuals, shape (number, k)."""
        fitted = self._designs[knot] @ (self._solve[knot] @ values)
        residuals = values - fitted
        # The fit has four free parameters (the knot included), which makes residuals too small.
        residuals *= np.sqrt(len(values) / max(1, len(values) - 4))
        drawn: Floats = fitted + random.choice(residuals, size=(number, len(values)))
        return drawn


def _slopes(
    solvers: _Solvers, values: Floats, knot: int, draws: Floats, knots: npt.NDArray[np.int64]
) -> tuple[Slope, Slope]:
    found = solvers.slopes(values[None], np.array([knot]))[0]
    drawn = solvers.slopes(draws, knots)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    before, after = (Slope(float(found[i]), float(low[i]), float(high[i])) for i in (0, 1))
    return before, after


def _verdict(x_before: Slope, x_after: Slope, y_before: Slope, y_after: Slope) -> str:
    if x_before.direction != 1 or y_before.direction != 1:
        return NONE
    if x_after.direction == -1 and y_after.direction != -1:
        return BOTH
    return FITTING if x_after.direction != -1 else NONE


def _check(axis: Floats, x: Floats, y: Floats) -> None:
    if axis.ndim != 1 or not axis.shape == x.shape == y.shape:
        raise InputError(f"Expected three series of one length: {axis.shape}, {x.shape}, {y.shape}")
    if len(axis) < 2 * _MARGIN + 2:
        raise InputError(f"Phases need at least {2 * _MARGIN + 2} checkpoints, not {len(axis)}.")
    if not (np.diff(axis) > 0).all() or axis[0] < 0:
        raise InputError("Steps must be at least 0 and ascend.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("I(T, X) and I(T, Y) must be finite.")

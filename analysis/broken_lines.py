"""Broken lines with autoregressive noise: how likely a rise or a fall before or after a turn is.

A continuous line turns at one checkpoint. Each of its parts is straight, or a parabola with its
vertex at the turn, over log(1 + step) or over the step. The noise around it is a first-order
autoregression whose coefficient ρ is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Checkpoints on each side of a turn, at least, so that both parts have a slope.
MARGIN = 2
_MOST_KNOTS = 40
#: The strongest autocorrelation of the noise that tests allow for.
STRONGEST = 0.8
#: Autocorrelations of the noise: 0 to .9 in even steps of artanh ρ, the seventh the strongest that
#: tests allow for.
RHOS = tuple(float(rho) for rho in np.tanh(np.arange(9) * np.arctanh(STRONGEST) / 6))
#: What a part of a line is a power of: the distance from the turn in log(1 + step) or in steps.
_AXES: tuple[Callable[[Floats], Floats], ...] = (np.log1p, np.asarray)
_POWERS = (1, 2)
#: Simulated series for each ρ, for what is no p.
_DRAWS = 200
#: How far simulated series without a slope change before they stay level, as a share of their
#: checkpoints. The longer noise is around a level, the more often a part of it resembles a slope.
_TURN = 0.45
#: Width of the kernel that compares a series' mean ρ with those of simulated series.
_CLOSE = 0.12
#: In standard deviations of the noise: how far the line goes on the other side of a tested slope.
_CERTAIN = 2.0
#: Below this, a residual of a series of range 1 is rounding.
_TINY = 1e-18


class BrokenLines:
    """Broken lines over the steps, and what they find in simulated noise.

    All layers and dimensions of a run have the same steps, so this is made once.

    Args:
        steps: Training steps of the checkpoints, ascending, shape (k,).
        resamples: Simulated series for a p.
        seed: Seed of all simulated series.
    """

    def __init__(self, steps: Floats, resamples: int, seed: int) -> None:
        self.axis, self.count = np.log1p(steps), len(steps)
        shapes = tuple(product(_AXES, _POWERS))
        parts = [
            (-_part(steps[k::-1], *before), _part(steps[k:], *after), k)
            for k in _knots(len(steps))
            for before, after in product(shapes, shapes)
        ]
        #: Level at the knot, slope before it and after it, shape (lines, k, 3).
        self.designs = np.zeros((len(parts), len(steps), 3))
        self.designs[:, :, 0] = 1.0
        for design, (before, after, knot) in zip(self.designs, parts, strict=True):
            design[knot::-1, 1], design[knot:, 2] = before, after
        #: Position of each line's knot.
        self.knots = np.array([knot for _, _, knot in parts])
        self._bases = [_bases(self.designs, rho) for rho in RHOS]
        self._volumes = [_volumes(self.designs, rho) for rho in RHOS]
        random = np.random.default_rng(seed)
        # Each ρ has its own innovations, so that chance in one is evened out by the others.
        drawn = random.normal(size=(len(RHOS), _DRAWS, len(steps)))
        #: Series of variance 1 for each ρ, shape (ρ's, series, k).
        self.noise = np.stack([_autoregression(*each) for each in zip(drawn, RHOS, strict=True)])
        self._strong = _autoregression(random.normal(size=(resamples, len(steps))), STRONGEST)
        self._known: dict[int | None, Nulls] = {}

    def lines(self, knot: int | None) -> slice:
        """Return the lines with that knot, or all."""
        if knot is None:
            return slice(0, len(self.designs))
        found = np.flatnonzero(self.knots == knot)
        return slice(int(found[0]), int(found[-1]) + 1)

    def fit(self, series: Floats, knot: int | None) -> Fit:
        """Return what lines find in series of shape (series, k).

        Args:
            series: Series with a range of about 1.
            knot: Position of the knot, or ``None`` to search it as well.
        """
        chosen, n = self.lines(knot), self.count
        # The shapes of the parts count as a free number, a knot that is searched as another.
        freedom = max(1, n - 4 - (knot is None))
        shape = (len(RHOS), len(series))
        likelihood, restricted, variance = np.empty(shape), np.empty(shape), np.empty(shape)
        best = np.empty(shape, dtype=np.int64)
        ratios = np.empty((*shape, 2))
        every = np.arange(len(series))
        for i, rho in enumerate(RHOS):
            parts, squares, _ = self._along(series, i, chosen)
            line = squares.argmin(axis=1)
            least = squares[every, line]
            stationary = np.log(1 - rho**2) / 2
            likelihood[i], best[i] = stationary - n / 2 * np.log(least), line + chosen.start
            inside = (3 - n) / 2 * np.log(squares) - self._volumes[i][chosen]
            restricted[i] = stationary + inside.max(axis=1)
            variance[i] = least / freedom / (1 - rho**2)
            for part, slope in enumerate((parts[:, 3], parts[:, 2])):
                ratios[i, :, part] = slope[every, line] / np.sqrt(least / freedom)
        weights = np.exp(restricted - restricted.max(axis=0))
        likeliest = likelihood.argmax(axis=0)
        return Fit(
            rho=np.array(RHOS) @ weights / weights.sum(axis=0),
            ratios=ratios[likeliest, every].T,
            likelihood=likelihood,
            likeliest=likeliest,
            lines=best[likeliest, every],
            variance=variance,
        )

    def evidence(self, series: Floats, knot: int | None) -> tuple[Floats, Floats]:
        """Return the evidence for rises and for falls, each of shape (2, series).

        Before the turn (0) that the best line rises, or falls, rather than that none does; after it
        (1) that it does rather than not. It is a log-likelihood, the mean over all ρ, less another.

        Args:
            series: As for :meth:`fit`.
            knot: The same.
        """
        chosen = self.lines(knot)
        found = np.empty((6, len(RHOS), len(series)))
        for i, rho in enumerate(RHOS):
            for j, left in enumerate(_hypotheses(*self._along(series, i, chosen))):
                found[j, i] = np.log(1 - rho**2) / 2 - self.count / 2 * np.log(left.min(axis=1))
        rises, no_rise, falls, no_fall, after_rises, after_falls = special.logsumexp(found, axis=1)
        return (
            np.stack([rises - no_rise, after_rises - after_falls]),
            np.stack([falls - no_fall, after_falls - after_rises]),
        )

    def _along(self, series: Floats, i: int, chosen: slice) -> tuple[Floats, Floats, Floats]:
        """Return series along bases, and squared residuals with and without slopes, for one ρ."""
        white = whiten(series, RHOS[i])
        parts = np.tensordot(white, self._bases[i][:, :, chosen], axes=1)
        flat = np.maximum((white**2).sum(axis=1)[:, None] - parts[:, 0] ** 2, _TINY)
        return parts, np.maximum(flat - parts[:, 1] ** 2 - parts[:, 2] ** 2, _TINY), flat

    def likelihood_of_knots(self, series: Floats) -> tuple[Integers, Floats]:
        """Return all knots, and the logarithm of the largest likelihood of lines with each.

        Args:
            series: One series with a range of about 1, shape (1, k).
        """
        knots, first = np.unique(self.knots, return_index=True)
        likeliest = np.full(len(knots), -np.inf)
        for i, rho in enumerate(RHOS):
            _, squares, _ = self._along(series, i, slice(None))
            least = np.minimum.reduceat(squares[0], first)
            found = np.log(1 - rho**2) / 2 - self.count / 2 * np.log(least)
            likeliest = np.maximum(likeliest, found)
        return knots, likeliest

    def nulls(self, knot: int | None) -> Nulls:
        """Return what lines find in noise around a line whose slope on one side of a turn is 0.

        On the other side the line rises or falls by two standard deviations of the noise. Were it
        flat there too, lines that turn elsewhere could take up the noise without the tested slope,
        and the evidence would be smaller.
        """
        if knot not in self._known:
            falling, rising = self._without_slope(self._strong, knot)
            (rise, _), (_, fall) = (self.evidence(each, knot) for each in (falling, rising))
            ratios, rho = [], []
            for noise in self.noise:
                before, after = (self.fit(each, knot) for each in self._without_slope(noise, knot))
                ratios.append(np.abs([before.ratios[0], after.ratios[1]]))
                rho.append([before.rho, after.rho])
            evidence = np.sort([rise[0], fall[1]], axis=1)
            self._known[knot] = Nulls(evidence, np.array(ratios), np.array(rho))
        return self._known[knot]

    def _without_slope(self, noise: Floats, knot: int | None) -> tuple[Floats, Floats]:
        """Return lines that are level before a fall, and after a rise, in noise."""
        last, places = self.count - 1, np.arange(self.count)
        # A series that is level before its turn is one that is level after it, read backwards.
        early = round(_TURN * last) if knot is None else knot
        late = last - early if knot is None else knot
        up = _CERTAIN * np.minimum(places / early, 1)
        down = -_CERTAIN * np.maximum(places - late, 0) / (last - late)
        return noise + down, noise + up


@dataclass(frozen=True)
class Fit:
    """The broken lines that fit series best.

    Attributes:
        rho: Mean ρ by the restricted likelihood, which allows for the line being fitted (Patterson
            and Thompson 1971), shape (series,).
        ratios: Slopes before (0) and after the turn (1) divided by their standard errors, shape
            (2, series).
        likelihood: Logarithm, of the best line with each ρ, shape (ρ's, series).
        likeliest: Position of the likeliest ρ, shape (series,).
        lines: The best line with that ρ, shape (series,).
        variance: Variance of the noise with each ρ, shape (ρ's, series).
    """

    rho: Floats
    ratios: Floats
    likelihood: Floats
    likeliest: Integers
    lines: Integers
    variance: Floats


@dataclass(frozen=True)
class Nulls:
    """What broken lines find in simulated series where a slope is 0.

    The slope is a rise before the turn (0) or a fall after it (1).

    Attributes:
        evidence: For the slope, ascending, in noise of the strongest autocorrelation that tests
            allow for, shape (2, resamples).
        ratios: Absolute, for each ρ, shape (ρ's, 2, draws).
        rho: Mean ρ by the restricted likelihood, of the same shape.
    """

    evidence: Floats
    ratios: Floats
    rho: Floats

    def likely(self, rho: float) -> Floats:
        """Return how likely each true ρ makes that mean of the likelihood, shape (ρ's,)."""
        close = np.exp(-(((self.rho - rho) / _CLOSE) ** 2) / 2)
        found: Floats = close.mean(axis=(1, 2)) + _TINY
        return found

    def p(self, part: int, evidence: Floats) -> Floats:
        """Return how often the evidence for a slope is as large, of the shape of ``evidence``.

        Args:
            part: Before (0) or after (1) the turn.
            evidence: Observed.
        """
        drawn = self.evidence[part]
        reached = len(drawn) - np.searchsorted(drawn, evidence - 1e-9)
        found: Floats = (1 + reached) / (1 + len(drawn))
        return found


@lru_cache(maxsize=4)
def broken_lines(steps: bytes, resamples: int, seed: int) -> BrokenLines:
    """Return :class:`BrokenLines` over float64 steps, kept for further layers of the same run."""
    return BrokenLines(np.frombuffer(steps), resamples, seed)


def _knots(n: int) -> Integers:
    """Return the checkpoints where a line may turn: all, or so many, evenly spaced."""
    inner = n - 2 * MARGIN
    chosen = np.linspace(0, inner - 1, min(inner, _MOST_KNOTS))
    found: Integers = MARGIN + np.round(chosen).astype(np.int64)
    return found


def _part(steps: Floats, axis: Callable[[Floats], Floats], power: int) -> Floats:
    """Return a power of the distance from the first step, as long as log(1 + step) is over all."""
    log, far = np.log1p(steps), np.abs(axis(steps) - axis(steps[:1]))
    scaled: Floats = (far / far[-1]) ** power * abs(log[-1] - log[0])
    return scaled


def _bases(designs: Floats, rho: float) -> Floats:
    """Return orthonormal columns of whitened lines, shape (k, 5, lines).

    Level, slope before and slope after the turn, each without what the columns before it explain;
    then the slope before without level and slope after, and the slope after without level.
    """
    white = whiten(designs.transpose(0, 2, 1), rho).transpose(0, 2, 1)
    turned = np.linalg.qr(white[:, :, [0, 2, 1]])[0]
    found = np.concatenate([np.linalg.qr(white)[0], turned[:, :, [2, 1]]], axis=2)
    found *= np.sign((found * white[:, :, [0, 1, 2, 1, 2]]).sum(axis=1))[:, None]
    return np.ascontiguousarray(found.transpose(1, 2, 0))


def _volumes(designs: Floats, rho: float) -> Floats:
    """Return the logarithms of the volumes that whitened lines' columns span, shape (lines,)."""
    white = whiten(designs.transpose(0, 2, 1), rho)
    found: Floats = np.linalg.slogdet(white @ white.transpose(0, 2, 1))[1] / 2
    return found


def _hypotheses(parts: Floats, squares: Floats, flat: Floats) -> Iterator[Floats]:
    """Yield least squares of lines under six hypotheses, shape (series, lines).

    A rise before the turn, a rise nowhere, a fall before it, a fall nowhere, a rise after the turn,
    a fall after it.

    Args:
        parts: Series along :func:`_bases`, shape (series, 5, lines).
        squares: Squares of the residuals of lines with both slopes, shape (series, lines).
        flat: The same for lines with neither.
    """
    without_before, without_after = squares + parts[:, 3] ** 2, squares + parts[:, 2] ** 2
    for sign in (1, -1):
        before, after, only_before, only_after = (sign * parts[:, j] > 0 for j in (3, 2, 1, 4))
        yield np.where(before, squares, without_before)
        # Of the lines without the slopes that have this sign, the one that fits best.
        nowhere = np.where(before | after, flat, squares)
        nowhere = np.minimum(nowhere, np.where(only_after, flat, without_before))
        yield np.minimum(nowhere, np.where(only_before, flat, without_after))
    for sign in (1, -1):
        yield np.where(sign * parts[:, 2] > 0, squares, without_after)


def whiten(series: Floats, rho: float) -> Floats:
    """Return series, shape (..., k), whose autoregression ρ is taken out."""
    white: Floats = series.copy()
    white[..., 0] *= np.sqrt(1 - rho**2)
    white[..., 1:] -= rho * series[..., :-1]
    return white


def _autoregression(innovations: Floats, rho: float) -> Floats:
    """Return stationary series of variance 1, shape (series, k)."""
    series: Floats = innovations.copy()
    for i in range(1, series.shape[1]):
        series[:, i] = rho * series[:, i - 1] + np.sqrt(1 - rho**2) * innovations[:, i]
    return series

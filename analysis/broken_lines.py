"""Broken lines with autoregressive noise: how likely a rise or a fall before or after a turn is.

A continuous line turns at one checkpoint, and each of its parts is straight over log(1 + step) or
over the step. The noise around it is a first-order autoregression whose coefficient ρ is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Checkpoints on each side of a turn, at least, so that both parts have a slope.
MARGIN = 2
_MOST_KNOTS = 40
#: Autocorrelations of the noise: 0 to .9 in even steps of artanh ρ, so that strong ones are weighed
#: with care.
RHOS = tuple(float(rho) for rho in np.tanh(np.linspace(0, np.arctanh(0.9), 8)))
#: A part of a line is straight over log(1 + step) or over the step, whichever fits better.
_AXES: tuple[Callable[[Floats], Floats], ...] = (np.log1p, np.asarray)
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
        resamples: Simulated series for each ρ.
        seed: Seed of these.
    """

    def __init__(self, steps: Floats, resamples: int, seed: int) -> None:
        self.axis, self.count = np.log1p(steps), len(steps)
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
        self._bases = [_bases(self.designs, rho) for rho in RHOS]
        self._volumes = [_volumes(self.designs, rho) for rho in RHOS]
        # Each ρ has its own innovations, so that chance in one is evened out by the others.
        drawn = np.random.default_rng(seed).normal(size=(len(RHOS), resamples, len(steps)))
        self._noise = [_autoregression(*each) for each in zip(drawn, RHOS, strict=True)]
        self._known: dict[int | None, Nulls] = {}

    def noise(self, number: int) -> Floats:
        """Return series of variance 1, at most so many for each ρ, shape (ρ's, series, k)."""
        return np.stack([noise[:number] for noise in self._noise])

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
        # A knot that is searched is a free number as well.
        freedom = max(1, n - 3 - (knot is None))
        shape = (len(RHOS), len(series))
        likelihood, restricted, variance = np.empty(shape), np.empty(shape), np.empty(shape)
        best = np.empty(shape, dtype=np.int64)
        ratios, signed = np.empty((*shape, 2)), np.empty((6, *shape))
        every = np.arange(len(series))
        for i, rho in enumerate(RHOS):
            white = whiten(series, rho)
            bases = self._bases[i][:, :, chosen]
            parts = np.tensordot(white, bases, axes=1)
            flat = np.maximum((white**2).sum(axis=1)[:, None] - parts[:, 0] ** 2, _TINY)
            squares = np.maximum(flat - parts[:, 1] ** 2 - parts[:, 2] ** 2, _TINY)
            line = squares.argmin(axis=1)
            least = squares[every, line]
            stationary = np.log(1 - rho**2) / 2
            likelihood[i], best[i] = stationary - n / 2 * np.log(least), line + chosen.start
            inside = (3 - n) / 2 * np.log(squares) - self._volumes[i][chosen]
            restricted[i] = stationary + inside.max(axis=1)
            variance[i] = least / freedom / (1 - rho**2)
            for part, slope in enumerate((parts[:, 3], parts[:, 2])):
                ratios[i, :, part] = slope[every, line] / np.sqrt(least / freedom)
            for j, left in enumerate(_hypotheses(parts, squares, flat)):
                signed[j, i] = stationary - n / 2 * np.log(left.min(axis=1))
        weights = np.exp(restricted - restricted.max(axis=0))
        likeliest = likelihood.argmax(axis=0)
        rises, no_rise, falls, no_fall, after_rises, after_falls = special.logsumexp(signed, axis=1)
        return Fit(
            rise=np.stack([rises - no_rise, after_rises - after_falls]),
            fall=np.stack([falls - no_fall, after_falls - after_rises]),
            rho=np.array(RHOS) @ weights / weights.sum(axis=0),
            ratios=ratios[likeliest, every].T,
            likelihood=likelihood,
            likeliest=likeliest,
            lines=best[likeliest, every],
            variance=variance,
        )

    def nulls(self, knot: int | None) -> Nulls:
        """Return what lines find in noise around a line whose slope on one side of a turn is 0.

        On the other side the line rises or falls by two standard deviations of the noise. Were it
        flat there too, lines that turn elsewhere could take up the noise without the tested slope,
        and the evidence would be smaller.
        """
        if knot not in self._known:
            turn, places = self.count // 2 if knot is None else knot, np.arange(self.count)
            up = _CERTAIN * np.minimum(places / turn, 1)
            down = -_CERTAIN * np.maximum(places - turn, 0) / (self.count - 1 - turn)
            found = []
            for noise in self._noise:
                before, after = self.fit(noise + down, knot), self.fit(noise + up, knot)
                evidence = np.stack([before.rise[0], after.fall[1]])
                ratios = np.abs([before.ratios[0], after.ratios[1]])
                found.append((evidence, ratios, np.stack([before.rho, after.rho])))
            self._known[knot] = Nulls(*(np.stack(each) for each in zip(*found, strict=True)))
        return self._known[knot]


@dataclass(frozen=True)
class Fit:
    """What broken lines find in series, before (0) and after the turn (1) on the first axis.

    Evidence is a log-likelihood, of the best line and the mean over all ρ, less another.

    Attributes:
        rise: That the series rises before the turn rather than nowhere, and that it rises after it
            rather than not, shape (2, series).
        fall: The same.
        rho: Mean ρ by the restricted likelihood, which allows for the line being fitted (Patterson
            and Thompson 1971), shape (series,).
        ratios: Slopes divided by their standard errors, shape (2, series).
        likelihood: Logarithm, of the best line with each ρ, shape (ρ's, series).
        likeliest: Position of the likeliest ρ, shape (series,).
        lines: The best line with that ρ, shape (series,).
        variance: Variance of the noise with each ρ, shape (ρ's, series).
    """

    rise: Floats
    fall: Floats
    rho: Floats
    ratios: Floats
    likelihood: Floats
    likeliest: Integers
    lines: Integers
    variance: Floats


@dataclass(frozen=True)
class Nulls:
    """What :class:`Fit` says of simulated series where a slope is 0, for each ρ.

    Shapes are (ρ's, 2, resamples), for a rise before the turn (0) and a fall after it (1).

    Attributes:
        evidence: For the slope.
        ratios: Absolute.
        rho: Mean ρ by the restricted likelihood.
    """

    evidence: Floats
    ratios: Floats
    rho: Floats

    def likely(self, rho: float) -> Floats:
        """Return how likely each true ρ makes that mean of the likelihood, shape (ρ's,)."""
        found: Floats = self._close(rho).mean(axis=(1, 2)) + _TINY
        return found

    def alike(self, part: int, rho: float, likely: Floats) -> Floats:
        """Return how alike simulated series are to one with that mean ρ, shape (ρ's, resamples).

        Those of the ρ that counts most have a mean of 1.

        Args:
            part: Before (0) or after (1) the turn.
            rho: The series' mean ρ by the restricted likelihood.
            likely: How likely each true ρ is beforehand, shape (ρ's,).
        """
        found: Floats = likely[:, None] * self._close(rho)[:, part]
        found /= found.mean(axis=1).max()
        return found

    def p(self, part: int, evidence: Floats, weights: Floats) -> Floats:
        """Return how often the evidence for a slope is as large, of the shape of ``evidence``.

        Args:
            part: Before (0) or after (1) the turn.
            evidence: Observed.
            weights: How alike the simulated series are, by :meth:`alike`.
        """
        drawn = self.evidence[:, part].ravel()
        order = drawn.argsort()
        reached = np.append(weights.ravel()[order][::-1].cumsum()[::-1], 0.0)
        places = np.searchsorted(drawn[order], evidence - 1e-9)
        found: Floats = (1 + reached[places]) / (1 + reached[0])
        return found

    def _close(self, rho: float) -> Floats:
        found: Floats = np.exp(-(((self.rho - rho) / _CLOSE) ** 2) / 2)
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


def _part(steps: Floats, axis: Callable[[Floats], Floats]) -> Floats:
    """Return an axis over a part, as long as log(1 + step) is over it."""
    log, places = np.log1p(steps), axis(steps)
    scaled: Floats = places * (log[-1] - log[0]) / (places[-1] - places[0])
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

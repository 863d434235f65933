"""Many comparisons at once: step-down tests, simultaneous intervals, and what ranks can be told.

All tests of a family are resampled together: a group's differences have one random sign in all of
them. So tests that say the same (a column that follows from another, two rows that answer alike)
cost no power, as they would with a correction that counts them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.comparison import FLIPS, random_signs
from lm_eval_trust.analysis.statistics import Floats

#: Assignments of signs in memory at once.
_AT_ONCE = 500
_TIE = 1e-9


@dataclass(frozen=True)
class TestBlock:
    """Tests on the same groups: differences of rows in one column.

    Attributes:
        groups: Identity of each group; the same group in two blocks gets the same signs.
        parts: What each group adds to each mean difference, shape (groups, tests).
        residuals: The same minus what the mean difference expects of the group, same shape.
    """

    #: Not a class of tests, whatever pytest thinks of the name.
    __test__ = False

    groups: Sequence[Hashable]
    parts: Floats
    residuals: Floats


@dataclass(frozen=True)
class Adjusted:
    """What remains of tests once their number is allowed for.

    Attributes:
        p: Adjusted p of each test, shape (tests,).
        counted: Whether a test counts: its differences are not all zero, and no earlier test has
            the same ones, shape (tests,).
        level: Level of each single interval at which all of them hold together.
    """

    p: Floats
    counted: npt.NDArray[np.bool_]
    level: float


def step_down(blocks: Sequence[TestBlock], level: float = 0.95, *, seed: int = 0) -> Adjusted:
    """Adjust tests by the step-down maxima of Westfall and Young (1993, algorithm 2.8).

    The statistic of a test is the sum of its groups' parts over the root of their sum of squares:
    its standard deviation if each group's sign is random. The adjusted p of the largest is the
    share of 5,000 assignments of signs whose largest statistic is as large; of the next, that of
    the largest of the others; and so on, never falling. The intervals' common level is that of the
    largest statistic of the residuals, in which no difference is left.

    Args:
        blocks: The family, in the order of its tests.
        level: At which all intervals hold together.
        seed: Seed of the signs.
    """
    scales = [np.sqrt(np.square(block.parts).sum(axis=0)) for block in blocks]
    scale = np.concatenate(scales) if scales else np.zeros(0)
    usable = scale > 0
    if not usable.any():
        return Adjusted(np.ones(len(scale)), usable, level)
    sums = np.concatenate([np.abs(block.parts.sum(axis=0)) for block in blocks])
    observed = np.where(usable, sums / np.where(usable, scale, 1.0), 0.0)
    order = np.argsort(-observed, kind="stable")
    beyond, largest = np.zeros(len(scale)), []
    for parts, residuals in _flipped(blocks, seed):
        maxima = np.maximum.accumulate(parts[:, order[::-1]], axis=1)[:, ::-1]
        beyond[order] += (maxima >= observed[order] - _TIE).sum(axis=0)
        largest.append(residuals.max(axis=1))
    adjusted = np.ones(len(scale))
    adjusted[order] = np.maximum.accumulate((1 + beyond[order]) / (1 + FLIPS))
    adjusted[~usable] = 1.0
    critical = float(np.quantile(np.concatenate(largest), level, method="inverted_cdf"))
    single = max(level, math.erf(critical / math.sqrt(2)))
    return Adjusted(adjusted, usable & _first_of_its_kind(blocks), min(single, 1 - 1e-12))


def _flipped(blocks: Sequence[TestBlock], seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield absolute statistics under random signs: of parts, and of residuals, (rows, tests)."""
    numbers: dict[Hashable, int] = {}
    places = [[numbers.setdefault(g, len(numbers)) for g in block.groups] for block in blocks]
    scaled = [[_scaled(each) for each in (block.parts, block.residuals)] for block in blocks]
    random = np.random.default_rng(seed)
    for start in range(0, FLIPS, _AT_ONCE):
        rows = min(_AT_ONCE, FLIPS - start)
        signs = random_signs(random, rows, len(numbers))
        found = [
            [np.abs(signs[:, place] @ matrix) for place, matrix in zip(places, kind, strict=True)]
            for kind in zip(*scaled, strict=True)
        ]
        parts, residuals = (np.concatenate(kind, axis=1) for kind in found)
        yield parts, residuals


def _scaled(matrix: Floats) -> Floats:
    length = np.sqrt(np.square(matrix).sum(axis=0))
    return matrix / np.where(length > 0, length, 1.0)


def _first_of_its_kind(blocks: Sequence[TestBlock]) -> npt.NDArray[np.bool_]:
    seen: set[Hashable] = set()
    found = []
    for block in blocks:
        names = [str(group) for group in block.groups]
        for parts in np.round(_scaled(block.parts), 9).T:
            filled = np.flatnonzero(parts)
            sign = np.sign(parts[filled[0]]) if len(filled) else 1.0
            kind = frozenset((names[i], float(sign * parts[i])) for i in filled)
            found.append(kind not in seen)
            seen.add(kind)
    return np.array(found, dtype=bool)


@dataclass(frozen=True)
class Standing:
    """What the data tell of a row's place in a column.

    Attributes:
        rank_low: Best rank that it may have, 1 or more.
        rank_high: Worst rank that it may have.
        may_be_best: Whether it belongs to the set that holds the best row.
        shrunk: Its score with the luck of being picked out taken off; see :func:`standings`.
    """

    rank_low: int
    rank_high: int
    may_be_best: bool
    shrunk: float


def standings(scores: Floats, parts: Floats, level: float = 0.95) -> tuple[Standing, ...]:
    """Return ranks' intervals, the set of rows that may be best, and shrunken scores.

    Row i is certainly above row j if the interval of their paired difference, at a level at which
    the intervals of all pairs hold together, lies above zero. A row's rank then lies between one
    more than the number of rows certainly above it and the number of rows minus those certainly
    below it, for all rows at once (Mogstad, Romano, Shaikh and Wilhelm 2024; Hsu 1996). The rows
    that none is certainly above are the set that holds the best one.

    The best of many noisy scores is mostly a lucky one. Shrunken scores are the empirical Bayes
    estimates of normal scores around their mean (Efron and Morris 1973). They use the variance of
    each row's deviation from the mean of the rows, in which what the items do to all rows cancels:
    mean + τ² / (τ² + variance) · deviation, τ² what the spread of the scores leaves beyond these
    variances, at least 0.

    Args:
        scores: Scores of each row, higher is better, shape (rows,).
        parts: What each group adds to each score beyond what its mean expects, shape
            (groups, rows): the residuals of :class:`TestBlock`, of rows instead of differences.
        level: Confidence of all ranks together.
    """
    rows, groups = len(scores), len(parts)
    gap = scores[:, None] - scores[None, :]
    covariance = parts.T @ parts * (groups / max(groups - 1, 1))
    variance = np.diag(covariance)
    error = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 0.0))
    critical = _largest_of_pairs(parts, error, level)
    # Rows that differ by the same in every group: certain if as many coins seldom fall alike.
    alike = (gap > 0) & (rows * (rows - 1) * 2.0**-groups < 1 - level)
    above = np.where(error > 0, gap > critical * error, alike)
    beaten, beats = above.sum(axis=0), above.sum(axis=1)
    centred = parts - parts.mean(axis=1, keepdims=True)
    noise = np.square(centred).sum(axis=0) * (groups / max(groups - 1, 1))
    centre = scores.mean()
    spread = np.square(scores - centre).sum() / max(rows - 1, 1)
    between = max(0.0, spread - noise.sum() / max(rows - 1, 1))
    known = between + noise > 0
    kept = np.where(known, between / np.where(known, between + noise, 1.0), 1.0)
    shrunk = centre + kept * (scores - centre)
    return tuple(
        Standing(1 + int(beaten[i]), rows - int(beats[i]), not beaten[i], float(shrunk[i]))
        for i in range(rows)
    )


def _largest_of_pairs(parts: Floats, error: Floats, level: float) -> float:
    """Return the quantile of the largest studentised difference of pairs under random signs.

    Student's, for as many groups, at the level that the normal one stands for.
    """
    first, second = np.triu_indices(len(error), k=1)
    usable = error[first, second] > 0
    first, second = first[usable], second[usable]
    if not len(first) or len(parts) < 2:
        return float(np.finfo(np.float64).max ** 0.5)
    random, largest = np.random.default_rng(len(parts)), []
    for _ in range(0, FLIPS // 5, _AT_ONCE):
        drawn = random_signs(random, _AT_ONCE, len(parts)) @ parts
        statistics = np.abs(drawn[:, first] - drawn[:, second]) / error[first, second]
        largest.append(statistics.max(axis=1))
    normal = float(np.quantile(np.concatenate(largest), level, method="inverted_cdf"))
    tail = max(1e-12, 1 - special.ndtr(normal))
    tail = min(tail, (1 - level) / 2)
    return float(special.stdtrit(len(parts) - 1, 1 - tail))

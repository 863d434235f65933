"""Many comparisons at once: step-down tests, simultaneous intervals, and what ranks can be told.

All tests of a family are resampled together: a group's differences have one random sign in all of
them. So tests that say the same (a column that follows from another, two rows that answer alike)
cost no power, as they would with a correction that counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from lm_eval_trust.analysis.comparison import FLIPS, random_signs
from lm_eval_trust.analysis.statistics import Floats, GroupTotals

#: Assignments of signs in memory at once.
_AT_ONCE = 500
_TIE = 1e-9


@dataclass(frozen=True)
class Difference:
    """Differences of two rows in one stratum.

    Attributes:
        weight: Weight of the stratum.
        totals: The differences by group.
        step: By how much items change, 0 for graded values; see
            :func:`~lm_eval_trust.analysis.statistics.step_of`.
    """

    weight: float
    totals: GroupTotals
    step: float = 0.0


@dataclass(frozen=True)
class TestBlock:
    """Tests on the same groups: differences of rows in one column.

    Attributes:
        groups: Identity of each group, stratum by stratum; the same group in two blocks gets the
            same signs.
        tests: The differences of each test, in strata with the same groups.
    """

    #: Not a class of tests, whatever pytest thinks of the name.
    __test__ = False

    groups: Sequence[Hashable]
    tests: Sequence[Sequence[Difference]]

    @property
    def parts(self) -> Floats:
        """What each group adds to each mean difference, shape (groups, tests)."""
        return self._stacked(lambda totals: totals.sums)

    @property
    def graded(self) -> npt.NDArray[np.bool_]:
        """Whether all values of a test are graded, shape (tests,)."""
        return np.array([not any(d.step for d in test) for test in self.tests], dtype=bool)

    def _stacked(self, of: Callable[[GroupTotals], Floats]) -> Floats:
        columns = [
            np.concatenate([d.weight * of(d.totals) / d.totals.sizes.sum() for d in test])
            for test in self.tests
        ]
        return np.stack(columns, axis=1)

    def tails(self, signs: Floats) -> Floats:
        """Return two-sided p of Student's statistic if no difference is left, under random signs.

        Each group's residual gets a sign, and the standard error is that of the signed ones, as it
        is that of the groups in an interval.

        Args:
            signs: −1 or 1, shape (assignments, groups).

        Returns:
            Shape (assignments, tests); 1 where no group differs from the others.
        """
        residuals = self._stacked(lambda totals: totals.residuals)
        shape = len(signs), len(self.tests)
        means, variances, start, freedom = np.zeros(shape), np.zeros(shape), 0, 1.0
        for difference in self.tests[0]:
            totals = difference.totals
            of = slice(start, start + totals.groups)
            share = (totals.sizes / totals.sizes.sum())[:, None]
            left = np.maximum(1 - share, _TIE)
            mean = signs[:, of] @ residuals[of]
            # Squares of signed residuals from their mean, each over what its group leaves.
            squares = np.square(residuals[of] / left).sum(axis=0)
            squares = squares - 2 * mean * (signs[:, of] @ (residuals[of] * share / left**2))
            squares += mean**2 * np.square(share / left).sum()
            means += mean
            variances += squares * (totals.groups - 1) / totals.groups
            freedom, start = max(freedom, totals.whole_groups - 1), of.stop
        scale = np.square(residuals).sum(axis=0)
        usable = np.broadcast_to(scale > 0, shape)
        errors = np.sqrt(np.maximum(variances, _TIE**2 * scale))
        ratio = np.divide(np.abs(means), errors, out=np.zeros(shape), where=usable)
        found: Floats = 2 * special.stdtr(freedom, -ratio)
        return found


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
    the largest of the others; and so on, never falling. The intervals' common level is that of
    :func:`joint_level`.

    Args:
        blocks: The family, in the order of its tests.
        level: At which all intervals hold together.
        seed: Seed of the signs.
    """
    matrices = [block.parts for block in blocks]
    scales = [np.sqrt(np.square(parts).sum(axis=0)) for parts in matrices]
    scale = np.concatenate(scales) if scales else np.zeros(0)
    usable = scale > 0
    if not usable.any():
        return Adjusted(np.ones(len(scale)), usable, level)
    sums = np.concatenate([np.abs(parts.sum(axis=0)) for parts in matrices])
    observed = np.where(usable, sums / np.where(usable, scale, 1.0), 0.0)
    order = np.argsort(-observed, kind="stable")
    beyond, scaled = np.zeros(len(scale)), [_scaled(parts) for parts in matrices]
    for signs in _signs_of(blocks, seed, FLIPS):
        flipped = [np.abs(s @ matrix) for s, matrix in zip(signs, scaled, strict=True)]
        parts = np.concatenate(flipped, axis=1)
        maxima = np.maximum.accumulate(parts[:, order[::-1]], axis=1)[:, ::-1]
        beyond[order] += (maxima >= observed[order] - _TIE).sum(axis=0)
    adjusted = np.ones(len(scale))
    adjusted[order] = np.maximum.accumulate((1 + beyond[order]) / (1 + FLIPS))
    adjusted[~usable] = 1.0
    single = joint_level(blocks, level, seed=seed)
    return Adjusted(adjusted, usable & _first_of_its_kind(blocks, scaled), single)


def joint_level(
    blocks: Sequence[TestBlock], level: float, *, seed: int = 0, flips: int = FLIPS
) -> float:
    """Return the level of single intervals at which all intervals of a family hold together.

    One minus the smallest p that the residuals of all tests, in which no difference is left, have
    under random signs of groups in as many cases as are not to be held. Signed residuals of skewed
    values have lighter tails than Student's, which intervals of graded values allow for by
    themselves. So their p is also the share of assignments in which their own test has one as small
    (the minimum-p of Westfall and Young 1993), and the wider of both levels holds.

    Args:
        blocks: The family.
        level: At which all intervals hold together.
        seed: Seed of the signs.
        flips: Assignments of signs.
    """
    drawn = [
        np.concatenate([b.tails(s) for b, s in zip(blocks, signs, strict=True)], axis=1)
        for signs in _signs_of(blocks, seed, flips)
    ]
    tails = np.concatenate(drawn)
    own, graded = tails.copy(), np.concatenate([block.graded for block in blocks])
    own[:, graded] = stats.rankdata(tails[:, graded].round(12), method="max", axis=0) / flips
    smallest = min(
        float(np.quantile(each.min(axis=1), 1 - level, method="inverted_cdf"))
        for each in (tails, own)
    )
    return min(max(level, 1 - smallest), 1 - 1e-12)


def _signs_of(blocks: Sequence[TestBlock], seed: int, flips: int) -> Iterator[list[Floats]]:
    """Yield random signs of each block's groups, each of shape (assignments, groups)."""
    numbers: dict[Hashable, int] = {}
    places = [[numbers.setdefault(g, len(numbers)) for g in block.groups] for block in blocks]
    random = np.random.default_rng(seed)
    for start in range(0, flips, _AT_ONCE):
        signs = random_signs(random, min(_AT_ONCE, flips - start), len(numbers))
        yield [signs[:, place] for place in places]


def _scaled(matrix: Floats) -> Floats:
    length = np.sqrt(np.square(matrix).sum(axis=0))
    return matrix / np.where(length > 0, length, 1.0)


def _first_of_its_kind(
    blocks: Sequence[TestBlock], scaled: Sequence[Floats]
) -> npt.NDArray[np.bool_]:
    seen: set[Hashable] = set()
    found = []
    for block, matrix in zip(blocks, scaled, strict=True):
        names = [str(group) for group in block.groups]
        for parts in np.round(matrix, 9).T:
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


def standings(scores: Floats, above: npt.NDArray[np.bool_], noise: Floats) -> tuple[Standing, ...]:
    """Return ranks' intervals, the set of rows that may be best, and shrunken scores.

    A row's rank lies between one more than the number of rows certainly above it and the number of
    rows minus those certainly below it, for all rows at once (Mogstad, Romano, Shaikh and Wilhelm
    2024; Hsu 1996). The rows that none is certainly above are the set that holds the best one.

    The best of many noisy scores is mostly a lucky one. Shrunken scores are the empirical Bayes
    estimates of normal scores around their mean (Efron and Morris 1973):
    mean + τ² / (τ² + variance) · deviation, τ² what the spread of the scores leaves beyond the
    variances, at least 0.

    Args:
        scores: Scores of each row, higher is better, shape (rows,).
        above: Whether row i is certainly above row j: whether the interval of their paired
            difference, at a level at which those of all pairs hold together, lies above zero; shape
            (rows, rows).
        noise: Variance of each row's deviation from the mean of the rows, in which what the items
            do to all rows cancels, shape (rows,).
    """
    rows = len(scores)
    beaten, beats = above.sum(axis=0), above.sum(axis=1)
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

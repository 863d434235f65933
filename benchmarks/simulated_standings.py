"""Simulated rows that are alike: whether ranks and joint intervals say so, for simulations.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.families import Difference, TestBlock, joint_level
from lm_eval_trust.analysis.statistics import GroupTotals
from lm_eval_trust.leaderboard.items import Strata, Stratum, Value
from lm_eval_trust.leaderboard.resampling import standings_of

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
LEVEL = 0.95
FLIPS = 1000

#: Items of each group.
SIZES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "of 4 items": lambda random, groups: np.full(groups, 4.0),
    "of 1 to 9 items": lambda random, groups: random.integers(1, 10, groups).astype(np.float64),
    "of 20, 10, 6 … items": lambda random, groups: np.maximum(
        20 // np.arange(1.0, groups + 1), 1.0
    ),
    "of one item": lambda random, groups: np.ones(groups),
}
#: Values of groups and rows, all of one mean.
VALUES: dict[str, Draw] = {
    "normal": lambda random, groups, rows: random.normal(size=(groups, rows)),
    "exponential": lambda random, groups, rows: random.exponential(size=(groups, rows)),
    "yes or no": lambda random, groups, rows: (random.random((groups, rows)) < 0.5).astype(float),
}
#: Groups, their sizes, rows, and values.
RANKS = (
    (8, "of 4 items", 5, "normal"),
    (20, "of 4 items", 5, "normal"),
    (20, "of 4 items", 8, "normal"),
    (20, "of 1 to 9 items", 5, "normal"),
    (60, "of 20, 10, 6 … items", 5, "normal"),
    (60, "of 4 items", 5, "exponential"),
    (20, "of one item", 8, "yes or no"),
)
#: Groups, their sizes, tests, and values.
JOINT = (
    (8, "of 4 items", 10, "normal"),
    (8, "of 4 items", 40, "normal"),
    (20, "of 4 items", 40, "normal"),
    (20, "of 20, 10, 6 … items", 10, "normal"),
    (20, "of 4 items", 10, "exponential"),
    (60, "of 4 items", 40, "exponential"),
)
RANKS_HEADER, JOINT_HEADER = (
    ("groups", "sizes", what, "values", "before", "now") for what in ("rows", "tests")
)


def rank_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often a row is certainly above another, though all are alike."""
    for design in RANKS:
        groups, kind, rows, values = design
        random, found = np.random.default_rng(list(repr(design).encode())), []
        for _ in range(runs):
            sizes = SIZES[kind](random, groups)
            of_rows = VALUES[values](random, groups, rows)
            board = {str(row): _strata(each, sizes) for row, each in enumerate(of_rows.T)}
            standings = standings_of(board, LEVEL, higher_is_better=True).values()
            now = any((s.rank_low, s.rank_high) != (1, rows) for s in standings)
            found.append((_ranked_before(of_rows * sizes[:, None], sizes, random), now))
        yield *design, *np.mean(found, axis=0)


def joint_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often all intervals of a family hold the truth."""
    for design in JOINT:
        groups, kind, tests, values = design
        random, found = np.random.default_rng(list(repr(design).encode())), []
        truth = 1.0 if values == "exponential" else 0.0
        for _ in range(runs):
            sizes = SIZES[kind](random, groups)
            drawn = VALUES[values](random, groups, tests)
            totals = [GroupTotals(each * sizes, sizes) for each in drawn.T]
            block = TestBlock(
                [str(g) for g in range(groups)], [[Difference(1.0, t)] for t in totals]
            )
            levels = _level_before(totals, random), joint_level([block], LEVEL)
            intervals = (
                [t.difference_interval(level, step=0.0) for t in totals] for level in levels
            )
            found.append([all(i.low <= truth <= i.high for i in each) for each in intervals])
        yield *design, *np.mean(found, axis=0)


def _strata(of_groups: Floats, sizes: Floats) -> Strata:
    """Return a row whose items have their group's value."""
    names = [f"g{group}" for group in np.repeat(np.arange(len(sizes)), sizes.astype(int))]
    values = np.repeat(of_groups, sizes.astype(int)).tolist()
    items = {
        f"t/{i:04d}": Value(value, name, "", ())
        for i, (value, name) in enumerate(zip(values, names, strict=True))
    }
    return (Stratum(1.0, items),)


def _ranked_before(sums: Floats, sizes: Floats, random: np.random.Generator) -> bool:
    """The former ranks: signed groups, over standard errors that the signs do not change."""
    groups, rows = sums.shape
    scores = sums.sum(axis=0) / sizes.sum()
    parts = (sums - scores * sizes[:, None]) / sizes.sum()
    first, second = np.array(list(combinations(range(rows), 2))).T
    differences = parts[:, first] - parts[:, second]
    errors = np.sqrt(groups / (groups - 1) * np.square(differences).sum(axis=0))
    signs = random.choice((-1.0, 1.0), size=(FLIPS, groups))
    usable = errors > 0
    largest = (np.abs(signs @ differences)[:, usable] / errors[usable]).max(axis=1)
    normal = float(np.quantile(largest, LEVEL, method="inverted_cdf"))
    tail = min(1 - float(special.ndtr(normal)), (1 - LEVEL) / 2)
    critical = float(special.stdtrit(groups - 1, 1 - tail))
    gaps = np.abs(scores[first] - scores[second])
    return bool((gaps[usable] > critical * errors[usable]).any())


def _level_before(totals: Sequence[GroupTotals], random: np.random.Generator) -> float:
    """The former level of single intervals: signed groups over a fixed root of squares."""
    residuals = np.stack([t.residuals for t in totals], axis=1)
    scaled = residuals / np.sqrt(np.square(residuals).sum(axis=0))
    signs = random.choice((-1.0, 1.0), size=(FLIPS, len(residuals)))
    largest = np.abs(signs @ scaled).max(axis=1)
    critical = float(np.quantile(largest, LEVEL, method="inverted_cdf"))
    return min(max(LEVEL, math.erf(critical / math.sqrt(2))), 1 - 1e-12)

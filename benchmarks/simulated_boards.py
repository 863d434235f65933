"""Simulated leaderboards with one real effect among 63 tests, for simulations.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.comparison import holm, mcnemar, sign_flip_p
from lm_eval_trust.analysis.families import Difference, TestBlock, step_down
from lm_eval_trust.analysis.statistics import GroupTotals

Floats = npt.NDArray[np.float64]
LEVEL = 0.05


@dataclass(frozen=True)
class Board:
    """Differences of rows from a reference.

    Attributes:
        blocks: The tests of each column, in which the real effect is the first of the first.
        primary: How many columns are the primary family.
        real: Whether each test has a real effect, shape (tests,).
    """

    blocks: list[TestBlock]
    primary: int
    real: npt.NDArray[np.bool_]


def block(groups: Sequence[str], parts: Floats) -> TestBlock:
    """Return tests from what each group adds to each mean difference, shape (groups, tests)."""
    sizes = np.ones(len(groups))
    totals = (GroupTotals(each * len(groups), sizes) for each in parts.T)
    return TestBlock(groups, [[Difference(1.0, each)] for each in totals])


def column(name: str, differences: Floats) -> TestBlock:
    """Return a column's tests from each item's differences, shape (items, rows)."""
    items = len(differences)
    return block([f"{name}/{item}" for item in range(items)], differences / items)


def normal_board(random: np.random.Generator, effect: bool) -> Board:
    """Nine rows, seven columns of 60 items: one constant, one a copy; two rows answer alike."""
    reference = random.normal(size=(7, 60, 1))
    values = reference + 0.5 * random.normal(size=(7, 60, 9))
    values[2], values[3] = 0.0, values[1]
    values[:, :, -1] = values[:, :, -2]
    values[0, :, 0] += 0.55 * effect
    blocks = [column(str(each), differences) for each, differences in enumerate(values)]
    return Board(blocks, 1, np.arange(63) == 0)


#: Share of right answers of the reference, and of items whose answer another row may change.
COLUMNS = {
    "ToxiGen": (0.6, 0.35),
    "Truth*Info": (0.2, 0.35),
    "ARC": (0.25, 0.25),
    "ConfAIde": (0.6, 0.5),
    "StereoSet": (0.0, 0.0),
    "SST-2": (0.04, 0.08),
}
SUITE = ("ToxiGen", "Truth*Info", "ConfAIde", "StereoSet", "SST-2")


def real_board(random: np.random.Generator, effect: bool, items: int = 40) -> Board:
    """The layout of docs/leaderboard.md's real rows: seven rows, nine columns of 40 items.

    One row answers as the reference does, two rows are nearly alike, StereoSet has no right
    answers, every answer informs, so that Truth is Truth*Info, and the suite is a mean of five
    columns. Rows change the same items, to answers that are right as often as the reference's.
    """
    found = {}
    for name, (right, changed) in COLUMNS.items():
        reference = random.random((items, 1)) < right
        open_to = random.random((items, 1)) < changed
        other = random.random((items, 7)) < right
        answers = np.where(open_to & (random.random((items, 7)) < 0.7), other, reference)
        answers[:, 6] = reference[:, 0]
        answers[:, 5] = np.where(random.random(items) < 0.9, answers[:, 4], answers[:, 5])
        if name == "ToxiGen" and effect:
            answers[:, 0] = reference[:, 0] | (random.random(items) < 0.75)
        found[name] = answers.astype(np.float64) - reference
    blocks = [column(name, differences) for name, differences in found.items()]
    blocks += [column("Truth*Info", found["Truth*Info"]), column("Info", np.zeros((items, 7)))]
    parts = np.concatenate([found[name] / items / len(SUITE) for name in SUITE])
    blocks.append(block([f"{name}/{item}" for name in SUITE for item in range(items)], parts))
    # The suite's mean has the effect of its part.
    return Board(blocks, len(COLUMNS), np.isin(np.arange(63), (0, 56)))


def single(blocks: Sequence[TestBlock]) -> list[tuple[float, float]]:
    """Return p of each test, and the smallest that it could have had."""
    found = []
    for parts in (test for each in blocks for test in each.parts.T):
        moved = parts[parts != 0]
        least = min(1.0, 2.0 ** (1 - len(moved)))
        alike = len(moved) and np.ptp(np.abs(moved)) < 1e-12
        p = mcnemar(int((moved > 0).sum()), int((moved < 0).sum())) if alike else sign_flip_p(moved)
        found.append((p, least))
    return found


def tarone_holm(tests: Sequence[tuple[float, float]]) -> list[float]:
    """Return p that counts, at each step, only tests that could reach it (Tarone 1990)."""
    left, adjusted, running = list(range(len(tests))), [1.0] * len(tests), 0.0
    for index in sorted(left, key=lambda i: tests[i][0]):
        p = tests[index][0]
        ways = range(1, len(left) + 1)
        counted = next(
            (k for k in ways if sum(tests[i][1] <= max(p, LEVEL / k) for i in left) <= k), len(left)
        )
        running = max(running, min(1.0, counted * p))
        adjusted[index] = running
        left.remove(index)
    return adjusted


CORRECTIONS: dict[str, Callable[[Board], Sequence[float] | Floats]] = {
    "Holm over all": lambda board: holm([p for p, _ in single(board.blocks)]),
    "Tarone–Holm over all": lambda board: tarone_holm(single(board.blocks)),
    "step-down over all": lambda board: step_down(board.blocks).p,
    "Holm, primary": lambda board: holm([p for p, _ in single(board.blocks[: board.primary])]),
    "step-down, primary": lambda board: step_down(board.blocks[: board.primary]).p,
    "step-down, one column": lambda board: step_down(board.blocks[:1]).p,
}
BOARDS = {"values of any size": normal_board, "the real rows": real_board}
HEADER = ("correction", "found", "any other found", "any found under no effect")


def rates(
    draw: Callable[[np.random.Generator, bool], Board], runs: int
) -> Iterator[Sequence[object]]:
    """Yield how often the effect, something else, and anything under no effect is found."""
    for name, correct in CORRECTIONS.items():
        found = []
        for run in range(runs):
            board = draw(np.random.default_rng([run, 1]), True)
            p = np.array(correct(board))
            other = p[~board.real[: len(p)]].min()
            null = min(correct(draw(np.random.default_rng([run, 0]), False)))
            found.append((p[0] <= LEVEL, other <= LEVEL, null <= LEVEL))
        yield name, *np.mean(found, axis=0)

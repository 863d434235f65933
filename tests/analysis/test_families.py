"""Families of tests: level, power against Holm's correction, and what ranks can be told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.comparison import holm, sign_flip_p
from lm_eval_trust.analysis.families import Difference, TestBlock, joint_level, standings, step_down
from lm_eval_trust.analysis.statistics import GroupTotals


def block(differences: np.ndarray, column: int = 0) -> TestBlock:
    """Tests on independent groups: differences of shape (groups, tests)."""
    groups = [f"{column}/{g}" for g in range(len(differences))]
    return TestBlock(groups, [[Difference(1.0, GroupTotals.of(each))] for each in differences.T])


def test_few_groups_against_all_assignments_of_signs() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=(7, 3))
    signs = np.array(list(itertools.product((-1, 1), repeat=7)))
    scaled = differences / np.sqrt(np.square(differences).sum(axis=0))
    drawn, observed = np.abs(signs @ scaled), np.abs(scaled.sum(axis=0))
    expected, running, left = np.zeros(3), 0.0, list(np.argsort(-observed))
    while left:
        share = (drawn[:, left].max(axis=1) >= observed[left[0]] - 1e-9).mean()
        running = expected[left[0]] = max(running, share)
        left.pop(0)
    assert step_down([block(differences)]).p == pytest.approx(expected, abs=0.03)


def test_a_single_test_keeps_its_p() -> None:
    differences = np.random.default_rng(1).normal(0.25, 1, size=(60, 1))
    found = step_down([block(differences)])
    assert found.p[0] == pytest.approx(sign_flip_p(differences[:, 0]), abs=0.02)
    assert found.level == pytest.approx(0.95, abs=0.01)


def test_what_says_the_same_does_not_count() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, size=(80, 1))
    alone = step_down([block(differences)])
    columns = np.concatenate([differences, np.zeros((80, 1)), -2 * differences], axis=1)
    found = step_down([block(columns)])
    assert found.counted.tolist() == [True, False, False]
    assert found.p[0] == found.p[2] == pytest.approx(alone.p[0])
    assert found.p[1] == 1.0


@pytest.mark.slow
def test_level_and_power_beside_holm() -> None:
    """Seven columns of nine rows against one reference, whose answers all rows share."""
    false, found, by_holm = 0, 0, 0
    for run in range(60):
        random = np.random.default_rng(run)
        columns = []
        for _ in range(7):
            reference = random.normal(size=(60, 1))
            columns.append(reference + 0.5 * random.normal(size=(60, 9)))
        false += min(step_down([block(c, i) for i, c in enumerate(columns)]).p) <= 0.05
        columns[0][:, 0] += 0.53
        found += step_down([block(c, i) for i, c in enumerate(columns)]).p[0] <= 0.05
        by_holm += holm([sign_flip_p(d) for c in columns for d in c.T])[0] <= 0.05
    assert false <= 7
    assert found >= by_holm + 5


def test_signed_residuals_get_the_standard_error_of_an_interval() -> None:
    """Two strata, of groups of several sizes: each assignment against the jackknife itself."""
    random = np.random.default_rng(5)
    sizes = [random.integers(1, 9, size=n).astype(float) for n in (6, 9)]
    strata = [
        Difference(w, GroupTotals(random.normal(size=len(n)) * n, n))
        for w, n in zip((0.3, 0.7), sizes, strict=True)
    ]
    signs = random.choice((-1.0, 1.0), size=(20, 15))
    found = TestBlock([str(g) for g in range(15)], [strata]).tails(signs)[:, 0]
    for row, p in zip(signs, found, strict=True):
        flipped = [
            Difference(d.weight, GroupTotals(s * d.totals.residuals, d.totals.sizes))
            for d, s in zip(strata, (row[:6], row[6:]), strict=True)
        ]
        mean = sum(d.weight * d.totals.mean for d in flipped)
        error = np.hypot(*(d.weight * d.totals.standard_error for d in flipped))
        freedom = max(d.totals.whole_groups for d in strata) - 1
        assert p == pytest.approx(2 * stats.t.sf(abs(mean) / error, freedom))


def test_skewed_graded_tests_get_the_level_of_independent_ones() -> None:
    """Signed residuals' tails are lighter than Student's, but each test's own say how often."""
    differences = np.random.default_rng(0).exponential(size=(60, 40))
    names = [str(g) for g in range(60)]
    totals = [GroupTotals.of(each) for each in differences.T]
    graded, stepped = (
        1 - joint_level([TestBlock(names, [[Difference(1.0, t, step)] for t in totals])], 0.95)
        for step in (0.0, 1.0)
    )
    assert graded == pytest.approx(1 - 0.95 ** (1 / 40), abs=0.0003)
    assert stepped > 0.0016


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "tests"), [(8, 40), (20, 10)])
def test_intervals_hold_together_over_few_groups(groups: int, tests: int) -> None:
    held, random = 0, np.random.default_rng(groups)
    for _ in range(100):
        family = block(random.normal(size=(groups, tests)))
        level = joint_level([family], 0.95, flips=1000)
        ends = [d.totals.difference_interval(level, step=0.0) for (d,) in family.tests]
        held += all(each.low < 0 < each.high for each in ends)
    assert held >= 89


def test_ranks_of_what_is_far_apart_and_of_what_is_alike() -> None:
    scores = np.array([0.0, 0.02, 3.0, 3.02])
    above = scores[:, None] - scores > 1
    found = standings(scores, above, np.full(4, 0.01**2))
    assert [(s.rank_low, s.rank_high) for s in found] == [(3, 4), (3, 4), (1, 2), (1, 2)]
    assert [s.may_be_best for s in found] == [False, False, True, True]
    assert found[3].shrunk == pytest.approx(3.02, abs=0.05)


def test_the_winner_of_rows_that_are_alike_is_shrunk_to_the_truth() -> None:
    lucky, shrunk = [], []
    for run in range(80):
        items = np.random.default_rng(run).normal(size=(50, 6))
        scores = items.mean(axis=0)
        noise = (items - items.mean(axis=1, keepdims=True)).var(axis=0, ddof=1) / 50
        found = standings(scores, np.zeros((6, 6), dtype=bool), noise)
        winner = int(scores.argmax())
        lucky.append(scores[winner])
        shrunk.append(found[winner].shrunk)
    assert np.mean(lucky) > 0.15
    assert abs(np.mean(shrunk)) < 0.35 * np.mean(lucky)

"""Paired comparisons: planted effects, clusters, closed forms, and how often tests err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.comparison import (
    MCNEMAR,
    SIGN_FLIPS,
    compare,
    holm,
    mcnemar,
)
from lm_eval_trust.core.errors import InputError


def test_equal_evaluations_do_not_differ() -> None:
    found = compare([0.0, 1.0] * 20, [0.0, 1.0] * 20)
    assert found.difference.mean == 0.0
    assert found.difference.low == -found.difference.high
    assert found.difference.low <= 0 <= found.difference.high
    assert (found.p, found.test, found.items, found.groups) == (1.0, MCNEMAR, 40, 40)


def test_a_change_of_every_item_is_seen() -> None:
    found = compare([0.0] * 30, [1.0] * 30)
    assert (found.difference.mean, found.difference.high) == (1.0, 1.0)
    # Tango's lower end for 30 of 30: (1 - x)² = t² (1 - x²) / 30.
    squared = stats.t.ppf(0.975, 29) ** 2
    assert found.difference.low == pytest.approx((30 - squared) / (30 + squared))
    assert found.difference.low > 0 or found.difference.high < 0
    assert found.p == pytest.approx(2 * 0.5**30)


def test_grouped_yes_or_no_metrics_flip_groups() -> None:
    before, after = [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]
    assert compare(before, after, ["a", "a", "b", "b"]).test == SIGN_FLIPS
    assert compare(before, after, ["a", "b", "c", "d"]).test == MCNEMAR
    assert compare(before, [0.0, 0.5, 1.0, 0.0]).test == SIGN_FLIPS


def test_mcnemar_by_hand() -> None:
    # 1 of 6: (1 + 6) / 64 on one side.
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1.0


def test_the_p_of_sign_flips_is_near_that_of_a_t_test() -> None:
    drawn = np.random.default_rng(5).normal(0.12, 1.0, size=300)
    expected = float(stats.ttest_1samp(drawn, 0).pvalue)
    assert compare(np.zeros(300), drawn).p == pytest.approx(expected, abs=0.015)


def test_few_groups_that_change_alike_are_not_certain() -> None:
    # Of k fair coins all fall alike with 2 / 2^k.
    assert compare([0.2], [0.7]).p == 1.0
    assert compare([0.0] * 12, [1.0] * 12, ["a", "b", "c", "d"] * 3).p == 2 / 16
    assert compare([0.2] * 40, [0.7] * 40).p < 0.001


def test_under_no_difference_p_is_small_no_oftener_than_it_says() -> None:
    generator, small = np.random.default_rng(6), 0
    for _ in range(200):
        groups = [i for i in range(60) for _ in range(3)]
        shared = np.repeat(generator.normal(size=60), 3)
        noise = generator.normal(size=180)
        small += compare(np.zeros(180), shared + noise, groups).p <= 0.05
    assert small <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("before", "after", "groups", "message"),
    [
        ([0.0], [0.0, 1.0], None, "two series of the same items"),
        ([], [], None, "series of values"),
        ([0.0], [1.0], ["a", "b"], "2 groups were given for 1 items"),
        ([0.0], [float("nan")], None, "not finite"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    before: list[float], after: list[float], groups: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compare(before, after, groups)

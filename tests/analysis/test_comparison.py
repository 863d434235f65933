"""Paired comparisons: planted effects, clusters, closed forms, and how often tests err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.comparison import (
    BOOTSTRAP,
    MCNEMAR,
    PairedDifferences,
    compare,
    detectable_difference,
    holm,
    mcnemar,
    power_to_show,
)
from lm_eval_trust.core.errors import InputError


def test_equal_evaluations_do_not_differ() -> None:
    found = compare([0.0, 1.0] * 20, [0.0, 1.0] * 20)
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)
    assert not found.difference.excludes_zero
    assert (found.p, found.test, found.items, found.groups) == (1.0, MCNEMAR, 40, 40)


def test_a_constant_change_is_certain() -> None:
    found = compare([0.0] * 30, [1.0] * 30)
    assert (found.difference.mean, found.difference.low, found.difference.high) == (1.0, 1.0, 1.0)
    assert found.difference.excludes_zero
    assert found.p == pytest.approx(2 * 0.5**30)


def test_the_interval_is_that_of_a_mean_where_items_are_their_own_groups() -> None:
    drawn = np.random.default_rng(3).normal(0.2, 1.0, size=400)
    paired = PairedDifferences.of(np.zeros(400), drawn)
    found, error = paired.interval(), drawn.std(ddof=1) / 20
    assert found.mean == pytest.approx(drawn.mean())
    assert paired.standard_error == pytest.approx(error)
    assert found.low == pytest.approx(drawn.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(drawn.mean() + 1.96 * error, abs=0.15 * error)


def test_items_of_a_group_count_once() -> None:
    drawn = np.random.default_rng(4).normal(size=50)
    groups = [f"{i:02}" for i in range(50) for _ in range(8)]
    single = PairedDifferences.of(np.zeros(50), drawn)
    repeated = PairedDifferences.of(np.zeros(400), np.repeat(drawn, 8), groups)
    assert repeated.standard_error == pytest.approx(single.standard_error)
    first, second = single.interval(), repeated.interval()
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=1e-9)


def test_a_change_of_every_item_is_certain_however_large_the_groups_are() -> None:
    groups = ["a"] + ["b"] * 4 + ["c"] * 15
    found = PairedDifferences.of(np.zeros(20), np.full(20, 0.3), groups).interval()
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.slow
def test_many_groups_are_resampled_in_pieces() -> None:
    paired = PairedDifferences.of(np.zeros(30_000), np.arange(30_000) / 30_000)
    assert paired.resampled(resamples=1000).std() == pytest.approx(paired.standard_error, rel=0.1)


def test_grouped_yes_or_no_metrics_take_the_bootstrap() -> None:
    before, after = [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]
    assert compare(before, after, ["a", "a", "b", "b"]).test == BOOTSTRAP
    assert compare(before, after, ["a", "b", "c", "d"]).test == MCNEMAR
    assert compare(before, [0.0, 0.5, 1.0, 0.0]).test == BOOTSTRAP


def test_mcnemar_by_hand() -> None:
    # 1 of 6: (1 + 6) / 64 on one side.
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1.0


def test_the_bootstrap_s_p_is_near_that_of_a_t_test() -> None:
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
    for trial in range(200):
        groups = [i for i in range(60) for _ in range(3)]
        shared = np.repeat(generator.normal(size=60), 3)
        noise = generator.normal(size=180)
        small += compare(np.zeros(180), shared + noise, groups, seed=trial).p <= 0.05
    assert small <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_power_and_the_detectable_difference_belong_together() -> None:
    found = detectable_difference(0.02, confidence=0.975, power=0.8)
    assert found == pytest.approx(0.02 * (1.959964 + 0.841621), rel=1e-5)
    assert power_to_show(found, 0.02, confidence=0.975) == pytest.approx(0.8)
    assert power_to_show(0.0, 0.02, confidence=0.975) == pytest.approx(0.025)
    assert (power_to_show(0.1, 0.0, confidence=0.9), power_to_show(0.0, 0.0, confidence=0.9)) == (
        1.0,
        0.0,
    )


@pytest.mark.parametrize(
    ("before", "after", "groups", "message"),
    [
        ([0.0], [0.0, 1.0], None, "two series of the same items"),
        ([], [], None, "two series of the same items"),
        ([0.0], [1.0], ["a", "b"], "2 groups were given for 1 items"),
        ([0.0], [float("nan")], None, "finite"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    before: list[float], after: list[float], groups: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compare(before, after, groups)

"""Intervals against closed forms of their own, and what they leave open where nothing differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from support.measured import binary

from lm_eval_trust.analysis.statistics import GroupTotals
from lm_eval_trust.gate.paired_test import Contrast, steps_of
from lm_eval_trust.gate.power import Design


def test_where_all_items_agree_the_ends_are_those_of_tango() -> None:
    items = 50
    found = binary(0, 0, items).interval(0.95)
    squared = stats.t.ppf(0.975, items - 1) ** 2
    assert found.high == pytest.approx(squared / (items + squared))
    assert found.low == pytest.approx(-found.high)


def test_where_all_changes_are_losses_the_lower_end_is_wilsons() -> None:
    lost, items = 3, 60
    found = binary(0, lost, items - lost).interval(0.95)
    quantile, share = float(stats.t.ppf(0.975, items - 1)), lost / items
    middle = share + quantile**2 / (2 * items)
    half = quantile * math.sqrt(share * (1 - share) / items + quantile**2 / (4 * items**2))
    assert -found.low == pytest.approx((middle + half) / (1 + quantile**2 / items))


@pytest.mark.parametrize("gained", [40, 39])
def test_where_nearly_all_items_change_the_near_end_is_wilsons(gained: int) -> None:
    items = 40
    found = binary(gained, 0, items - gained).interval(0.95)
    quantile, share = float(stats.t.ppf(0.975, items - 1)), gained / items
    middle = share + quantile**2 / (2 * items)
    half = quantile * math.sqrt(share * (1 - share) / items + quantile**2 / (4 * items**2))
    assert found.low == pytest.approx((middle - half) / (1 + quantile**2 / items))


@pytest.mark.parametrize("items", [10, 40, 200])
def test_a_gain_of_the_bound_is_shown_as_seldom_as_promised(items: int) -> None:
    lows = np.array([binary(k, 0, items - k).interval(0.95).low for k in range(items + 1)])
    for bound in np.linspace(0.05, 0.99, 48):
        chances = stats.binom.pmf(np.arange(items + 1), items, bound)
        assert chances[lows >= bound].sum() < 0.032


def test_where_many_items_differ_both_ways_it_is_students() -> None:
    values = np.repeat([1.0, -1.0, 0.0], [40, 55, 105])
    found = binary(40, 55, 105).interval(0.9)
    students = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((students.low, students.high))


def test_items_that_change_together_count_as_one() -> None:
    alone, together = binary(0, 0, 40).interval(0.95), binary(0, 0, 40, together=4).interval(0.95)
    squared = stats.t.ppf(0.975, 9) ** 2
    assert together.high == pytest.approx(squared / (10 + squared))
    assert together.high > 3 * alone.high


def test_a_single_group_shows_nothing() -> None:
    contrast = binary(1, 5, 4, together=10)
    assert contrast.interval(0.95).high == math.inf
    assert Design.of(contrast, 0.95).smallest_shown() == math.inf
    assert Design.of(contrast, 0.95).groups_needed(0.5) is None


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([[1.0, 1.0]], (1.0, 1.0)),
        ([[0.0, 1.0], [1.0, 1.0]], (1.0, 1.0)),
        ([[0.0, 0.5], [1.0, 0.25]], (0.25, 1.0)),
        ([[-2.5, -2.5]], (0.0, 0.0)),
    ],
)
def test_steps_are_those_of_the_values(
    series: list[list[float]], expected: tuple[float, float]
) -> None:
    assert steps_of(*series) == expected


def test_items_are_weighted_by_their_number() -> None:
    contrast = Contrast(GroupTotals(np.zeros(3), np.array([2.0, 1.0, 1.0])), step=1.0)
    assert contrast.effective_items == pytest.approx(16 / 6)

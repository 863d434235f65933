"""Intervals against closed forms of their own, and what they leave open where nothing differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
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


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (9, 1), (3, 6), (0, 4)])
def test_the_score_ends_are_those_of_the_likeliest_shares(lost: int, won: int) -> None:
    items = 60
    change = np.repeat((-1.0, 1.0, 0.0), (lost, won, items - lost - won))
    found = Contrast(GroupTotals.of(change), 1.0, 1.0, differences=GroupTotals.of(change)).interval(
        0.95
    )

    def score(mean: float) -> float:
        """How many standard errors the observed mean is from another, by a search for shares."""

        def unlikely(share: float) -> float:
            chances = (share - mean) / 2, (share + mean) / 2, 1 - share
            counts = lost, won, items - lost - won
            return -sum(n * np.log(max(p, 1e-300)) for n, p in zip(counts, chances, strict=True))

        found = optimize.minimize_scalar(
            unlikely, bounds=(abs(mean), 1.0), method="bounded", options={"xatol": 1e-10}
        )
        share = float(found.x)
        return float(abs(change.mean() - mean) / np.sqrt((share - mean**2) / items))

    quantile = stats.t.ppf(0.975, items - 1)
    for end, outside in ((found.low, -0.01), (found.high, 0.01)):
        assert score(end) >= quantile - 1e-4 and score(end + outside) > quantile
    plain = change.mean() + change.std(ddof=1) / np.sqrt(items) * quantile * np.array([-1, 1])
    assert (found.low <= plain[0] + 1e-12) and (found.high >= plain[1] - 1e-12)
    nearest = min(abs(score(end) - quantile) for end in (found.low, found.high))
    assert nearest < 1e-3


@pytest.mark.parametrize(("differing", "margin"), [(0.1, 0.05), (0.1, 0.08), (0.2, 0.08)])
def test_a_model_that_loses_the_margin_passes_in_one_of_forty(
    differing: float, margin: float
) -> None:
    """Summed over all that 100 items can show, without any simulation."""
    items, total = 100, 0.0
    lost, won = (differing + margin) / 2, (differing - margin) / 2
    for loss in range(40):
        for gain in range(25):
            change = np.repeat((-1.0, 1.0, 0.0), (loss, gain, items - loss - gain))
            contrast = Contrast(
                GroupTotals.of(change), 1.0, 1.0, differences=GroupTotals.of(change)
            )
            if contrast.mean < -margin:
                continue
            if contrast.interval(0.95).low >= -margin:
                total += stats.multinomial.pmf(
                    [loss, gain, items - loss - gain], items, [lost, won, 1 - lost - won]
                )
    assert 0.01 < total <= 0.025

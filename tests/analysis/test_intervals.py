"""The interval engine: how often it covers the truth, closed forms, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from lm_eval_trust.analysis.bootstrap_t import _counts, _drawn
from lm_eval_trust.analysis.statistics import (
    GroupTotals,
    mean_interval,
    paired_interval,
    proportion_interval,
    ratio_interval,
)
from lm_eval_trust.core.errors import InputError

Random = np.random.Generator


def _wilson(share: float, items: float, quantile: float) -> tuple[float, float]:
    """Solve (share − x)² = quantile² x (1 − x) / items by its polynomial."""
    square = quantile**2 / items
    low, high = sorted(np.roots([1 + square, -(2 * share + square), share**2]).real)
    return float(low), float(high)


def test_independent_normal_values_get_about_student_s_interval() -> None:
    values = np.random.default_rng(0).normal(size=400)
    expected = stats.t.interval(0.95, 399, values.mean(), values.std(ddof=1) / 20)
    width = expected[1] - expected[0]
    found = mean_interval(values)
    assert found == pytest.approx(expected, abs=0.06 * width)
    assert found[0] <= expected[0] + 1e-9
    assert found[1] >= expected[1] - 1e-9


def test_the_standard_error_is_that_of_leaving_out_one_group_at_a_time() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), random.integers(1, 9, size=12))
    values = random.exponential(size=len(groups))
    means = np.array([values[groups != g].mean() for g in range(12)])
    expected = np.sqrt(11 / 12 * np.square(means - values.mean()).sum())
    found = GroupTotals.of(values, groups.tolist())
    assert found.standard_error == pytest.approx(expected)
    assert found.mean == pytest.approx(values.mean())


def test_independent_yes_or_no_items_get_wilson_s_interval() -> None:
    found = mean_interval([1.0] * 20)
    assert found == pytest.approx(_wilson(1.0, 20, stats.t.ppf(0.975, 19)))
    assert 0.8 < found[0] < 0.85
    assert mean_interval([0.0] * 20) == pytest.approx((1 - found[1], 1 - found[0]))


def test_models_that_agree_everywhere_may_still_differ() -> None:
    low, high = paired_interval([0, 1] * 20, [0, 1] * 20)
    assert low == -high
    assert high == pytest.approx(_wilson(0.0, 40, stats.t.ppf(0.975, 39))[1])


def test_items_of_a_group_count_once() -> None:
    values = np.random.default_rng(2).exponential(size=50)
    repeated = np.repeat(values, 8)
    assert mean_interval(repeated, np.repeat(np.arange(50), 8)) == pytest.approx(
        mean_interval(values)
    )


def test_neither_order_nor_names_nor_direction_matter() -> None:
    random = np.random.default_rng(3)
    values, groups = random.exponential(size=300), random.integers(40, size=300)
    found, order = mean_interval(values, groups.tolist()), random.permutation(300)
    names = [f"group {group}" for group in groups[order]]
    assert mean_interval(values[order], names) == pytest.approx(found)
    assert mean_interval(-values, groups.tolist()) == pytest.approx((-found[1], -found[0]))
    assert mean_interval(5 + 2 * values, groups.tolist()) == pytest.approx(
        tuple(5 + 2 * end for end in found)
    )


def test_a_ratio_is_a_mean_weighted_by_its_denominators() -> None:
    random = np.random.default_rng(4)
    tokens = random.integers(5, 50, size=60)
    logs = -2.0 * tokens + random.normal(scale=4, size=60) * np.sqrt(tokens)
    found = ratio_interval(logs, tokens)
    assert found[0] < logs.sum() / tokens.sum() < found[1]
    assert ratio_interval(3 * logs, tokens) == pytest.approx(tuple(3 * end for end in found))
    assert ratio_interval(logs, np.ones(60)) == pytest.approx(mean_interval(logs))


def test_a_resample_divides_by_its_own_denominators() -> None:
    random = np.random.default_rng(6)
    sizes = random.integers(1, 40, size=12).astype(float)
    beyond = np.sort(random.exponential(size=12) * sizes)
    found = GroupTotals(beyond - beyond.sum() / sizes.sum() * sizes, sizes)
    order = np.argsort(found.residuals)
    sums, sizes = found.sums[order], sizes[order]
    for counts, drawn in zip(_counts(12)[:20], _drawn(found.residuals, found.sizes), strict=False):
        groups = np.repeat(np.arange(12), counts.astype(int))
        ratio = sums[groups].sum() / sizes[groups].sum()
        left_out = (sums - ratio * sizes)[groups] / (1 - sizes / sizes.sum())[groups]
        error = np.sqrt(11 / 12 * np.square(left_out).sum()) / sizes[groups].sum()
        assert drawn == pytest.approx(ratio / error)


@pytest.mark.parametrize(
    ("items", "won", "lost"), [(30, 0.08, 0.04), (35, 0.05, 0.02), (100, 0.05, 0.01)]
)
def test_differences_are_covered_where_few_items_change(
    items: int, won: float, lost: float
) -> None:
    covered = 0.0
    for gains in range(16):
        for losses in range(12):
            counts = [gains, losses, items - gains - losses]
            before, after = (np.repeat(each, counts) for each in ([0, 1, 1], [1, 0, 1]))
            low, high = paired_interval(before, after)
            if low <= won - lost <= high:
                shares = [won, lost, 1 - won - lost]
                covered += stats.multinomial.pmf(counts, items, shares)
    assert covered >= 0.95


def test_items_that_change_both_ways_one_in_each_group_are_independent() -> None:
    totals = GroupTotals(np.repeat([1.0, -1.0], 20), np.full(40, 2.0))
    # Half of the 80 items changed. The jackknife divides by one group less.
    observed = 0.5 / (40 / 80**2 * 40 / 39)
    assert totals.effective_items() == pytest.approx(1 / (40 / 44 / observed + 4 / 44 / 40))
    assert 70 < totals.effective_items() < 80


def test_shares_stay_between_0_and_1() -> None:
    values = [0.02, 0.98, 0.9, 0.99, 1.0, 0.97, 0.99, 1.0, 0.98]
    low, high = mean_interval(values)
    assert high > 1
    assert proportion_interval(values) == (max(0.0, low), 1.0)


def test_one_large_group_among_single_items_does_not_blow_the_interval_up() -> None:
    groups = [0] * 16 + list(range(1, 8))
    for seed in range(200):
        values = np.random.default_rng(seed).choice([-0.5, 0.0, 0.3], size=len(groups))
        # Student's reaches 12.7 standard errors, with one degree of freedom.
        assert np.abs(mean_interval(values, groups)).max() < 20


def test_a_single_group_says_nothing_about_others() -> None:
    assert np.isnan(mean_interval([0.2, 0.4], ["a", "a"])).all()
    assert np.isnan(proportion_interval([1.0], ["a"])).all()
    assert np.isnan(paired_interval([1.0], [0.0])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "series of values"),
        (lambda: mean_interval([0.2, np.nan, np.inf]), "2 of 3 values are not finite"),
        (lambda: mean_interval([0.2, 0.3], ["a"]), "1 groups were given for 2 items"),
        (lambda: mean_interval([0.2, 0.3], level=95), "level is 95"),
        (lambda: proportion_interval([0.2, 1.3]), "from 0 to 1"),
        (lambda: paired_interval([1.0], [1.0, 0.0]), "1 and 2"),
        (lambda: ratio_interval([1.0, 2.0], [1.0, -1.0]), "at least 0"),
        (lambda: ratio_interval([1.0, 2.0], [1.0]), "1 weights were given for 2 items"),
        (lambda: mean_interval(["high", "low"]), "series of numbers"),
        (lambda: mean_interval([0.2, 0.3], [["a"], ["b"]]), "names or numbers, one for each"),
    ],
)
def test_what_has_no_interval_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def _covered(draw: Callable[[Random], tuple[np.ndarray, list[int]]], truth: float) -> float:
    hits = 0
    for run in range(300):
        low, high = mean_interval(*draw(np.random.default_rng(run)))
        hits += low <= truth <= high
    return hits / 300


@pytest.mark.parametrize("groups", [8, 15, 30])
def test_skewed_differences_are_covered(groups: int) -> None:
    def draw(random: Random) -> tuple[np.ndarray, list[int]]:
        sizes = random.integers(1, 9, size=groups)
        index = np.repeat(np.arange(groups), sizes)
        shared = random.exponential(size=groups)[index]
        return shared + 0.5 * random.normal(size=len(index)), index.tolist()

    # 300 runs of a coverage of .94 stay above .915 with 97 %.
    assert _covered(draw, 1.0) >= 0.915


@pytest.mark.parametrize("groups", [8, 9, 10])
def test_few_skewed_groups_are_covered(groups: int) -> None:
    drawn = np.random.default_rng(7).lognormal(0, 0.75, size=(10_000, groups))
    ends = np.array([mean_interval(values) for values in drawn])
    truth = np.exp(0.75**2 / 2)
    # The standard error is .0024.
    assert ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() >= 0.94


def test_far_tails_of_skewed_values_are_covered() -> None:
    """At a level at which 40 intervals hold together."""
    level, drawn = 0.95 ** (1 / 40), np.random.default_rng(3).exponential(size=(12_000, 60))
    ends = np.array([mean_interval(values, level=level) for values in drawn])
    # The standard error is .0003.
    assert ((ends[:, 0] > 1) | (ends[:, 1] < 1)).mean() <= 0.0015


@pytest.mark.parametrize("groups", [8, 30])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.963, 0.99])
def test_shares_are_covered(groups: int, share: float) -> None:
    def draw(random: Random) -> tuple[np.ndarray, list[int]]:
        of_group = random.beta(2 * share, 2 * (1 - share), size=groups)
        index = np.repeat(np.arange(groups), 6)
        return (random.random(len(index)) < of_group[index]).astype(float), index.tolist()

    assert _covered(draw, share) >= 0.915


def by_chance(right: np.ndarray) -> np.ndarray:
    """One of three options, with chance taken off: 1 or −0.5."""
    return np.where(right > 0, 1.0, -0.5)


def test_two_values_are_a_share_on_another_scale() -> None:
    random = np.random.default_rng(11)
    groups = np.arange(60) // 2
    right, other = (random.random((2, 60)) < 0.95).astype(float)
    for given in (None, groups.tolist()):
        low, high = proportion_interval(right, given)
        assert mean_interval(by_chance(right), given)[0] == pytest.approx(1.5 * low - 0.5)
        assert mean_interval(by_chance(right), given)[1] == pytest.approx(1.5 * high - 0.5)
        ends = paired_interval(by_chance(right), by_chance(other), given)
        assert ends == pytest.approx([1.5 * end for end in paired_interval(right, other, given)])


def test_two_opposite_values_change_by_two() -> None:
    """The answers of BBQ that go with a stereotype count 1, the opposite ones −1."""
    before, after = np.array([-1.0, 1.0] * 20), np.ones(40)
    low, high = paired_interval(before, after)
    as_shares = paired_interval((before + 1) / 2, (after + 1) / 2)
    assert (low, high) == pytest.approx([2 * end for end in as_shares])
    assert paired_interval(-after, after)[1] == pytest.approx(2.0)
    three = np.array([-1.0, 0.0, 1.0, 1.0] * 10)
    low, high = paired_interval(three, -three)
    assert low < -0.5 < high


@pytest.mark.parametrize("share", [0.05, 0.02])
def test_graded_answers_of_which_few_change_are_covered(share: float) -> None:
    """Means over four seeds: an item that changes does so by a quarter, or by several."""
    held, random = 0, np.random.default_rng(12)
    for _ in range(300):
        before = random.integers(0, 5, size=50) / 4
        change = -np.minimum(before, random.choice([0.25, 1.0], size=50))
        after = before + change * (random.random(50) < share)
        # The mean over both sizes, and over the five values that an item may have.
        truth = -share * (0.8 * 0.25 + 0.5) / 2
        low, high = paired_interval(before, after)
        held += low <= truth <= high
    assert held >= 282
    # Items that all agree are as far from certain as yes-or-no items.
    assert paired_interval(before, before) == paired_interval(before > 0.5, before > 0.5)


def test_a_graded_item_does_not_make_all_others_certain() -> None:
    alone = mean_interval(np.ones(20))
    beside = mean_interval([1.0] * 19 + [0.5])
    assert beside[0] < alone[0] and beside[1] <= 1.0


@pytest.mark.parametrize("groups", [8, 11])
def test_a_higher_level_never_has_a_narrower_interval(groups: int) -> None:
    random = np.random.default_rng(groups)
    for _ in range(60):
        values = np.where(random.random(groups) < 0.3, random.exponential(8, groups), 0.1)
        values += random.normal(0, 0.05, groups)
        ends = [mean_interval(values, level=level) for level in (0.8, 0.9, 0.95, 0.99, 0.999)]
        lows, highs = np.array(ends).T
        assert (np.diff(lows) <= 1e-12).all() and (np.diff(highs) >= -1e-12).all()


def test_a_further_group_changes_a_skewed_interval_little() -> None:
    random = np.random.default_rng(13)
    values = np.where(random.random(1000) < 0.01, random.exponential(100, 1000), 0.0)
    values += random.normal(size=1000)
    low, high = mean_interval(values)
    again = mean_interval([*values, values.mean()])
    assert again == pytest.approx((low, high), abs=0.1 * (high - low))


def test_groups_of_a_tensor_are_its_numbers() -> None:
    values, groups = np.random.default_rng(14).normal(size=24), np.arange(24) // 2
    as_list = mean_interval(values, groups.tolist())
    assert mean_interval(values, groups) == as_list
    assert mean_interval(values, torch.from_numpy(groups)) == as_list

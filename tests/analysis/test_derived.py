"""Intervals of ICAT and of drop rates, against a bootstrap and rates of coverage."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from lm_eval_trust.analysis.derived import (
    SmallerProducts,
    drop_rate_interval,
    icat_by_term,
    icat_interval,
    icat_products,
    mean_over_groups,
)
from lm_eval_trust.analysis.statistics import GroupTotals, mean_interval, paired_interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.tasks.metrics import icat, performance_drop_rate

Floats = npt.NDArray[np.float64]


def items(
    random: np.random.Generator, terms: int, language: float, stereotype: float
) -> tuple[Floats, Floats, list[int]]:
    """Draw language and stereotype scores of 5 to 9 items of each term."""
    term = np.repeat(np.arange(terms), random.integers(5, 10, size=terms))
    lms = 50.0 * (random.random((2, len(term))) < language / 100).sum(axis=0)
    own = random.beta(stereotype / 12, (100 - stereotype) / 12, size=terms)[term]
    return lms, 100.0 * (random.random(len(term)) < own), term.tolist()


def test_the_interval_of_icat_is_that_of_a_bootstrap_over_terms() -> None:
    random = np.random.default_rng(0)
    lms, ss, terms = items(random, 300, 85, 65)
    values = list(zip(terms, lms, ss, strict=True))
    found = icat_interval(lms, ss, terms)
    assert found.mean == pytest.approx(icat(values))
    by_term = np.array(
        [[side[np.array(terms) == term].mean() for side in (lms, ss)] for term in range(300)]
    )
    drawn = by_term[random.integers(300, size=(4000, 300))].mean(axis=1)
    scores = drawn[:, 0] * np.minimum(drawn[:, 1], 100 - drawn[:, 1]) / 50
    low, high = np.quantile(scores, (0.025, 0.975))
    assert found.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high == pytest.approx(high, abs=0.15 * (high - low))


@pytest.mark.parametrize("stereotype", [50.0, 60.0])
def test_icat_is_covered_at_its_kink_and_beside_it(stereotype: float) -> None:
    truth = 80 * min(stereotype, 100 - stereotype) / 50
    held = [
        found.low <= truth <= found.high
        for seed in range(200)
        for found in [icat_interval(*items(np.random.default_rng(seed), 30, 80, stereotype))]
    ]
    assert np.mean(held) >= 0.93


def test_icat_has_mirrored_stereotypes_and_an_open_end_where_all_terms_agree() -> None:
    lms, ss, terms = items(np.random.default_rng(1), 12, 90, 60)
    one, other = icat_interval(lms, ss, terms), icat_interval(lms, 100 - ss, terms)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))
    ideal = icat_interval([100.0] * 20, [100.0, 0.0] * 10, [i // 2 for i in range(20)])
    assert ideal.high == ideal.mean == 100.0 and 25 < ideal.low < 60
    biased = icat_interval([100.0] * 20, [100.0] * 20, list(range(20)))
    assert biased.low == biased.mean == 0.0 and 5 < biased.high < 60


def test_terms_count_the_same_and_equal_terms_are_a_share() -> None:
    values, terms = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    assert mean_over_groups(values, terms).mean == 0.5
    random = np.random.default_rng(2)
    equal, own = (random.random(60) < 0.4).astype(float), [i // 3 for i in range(60)]
    low, high = mean_interval(equal, own)
    found = mean_over_groups(equal, own)
    assert found.mean == pytest.approx(equal.mean())
    assert found.low <= low + 1e-9 and found.high >= high - 1e-9
    assert found.high - found.low < 1.2 * (high - low)


def test_the_interval_of_a_drop_rate_is_that_of_a_bootstrap_over_sentences() -> None:
    random = np.random.default_rng(3)
    before = random.random(800) < 0.8
    after = np.where(before, random.random(800) < 0.7, random.random(800) < 0.1)
    found = drop_rate_interval(before.astype(float), after.astype(float))
    assert found.mean == pytest.approx(
        performance_drop_rate(list(zip(before.astype(float), after.astype(float), strict=True)))
    )
    drawn = random.integers(800, size=(4000, 800))
    rates = 1 - after[drawn].mean(axis=1) / before[drawn].mean(axis=1)
    low, high = np.quantile(rates, (0.025, 0.975))
    assert found.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high == pytest.approx(high, abs=0.15 * (high - low))


def test_a_drop_rate_is_covered() -> None:
    held = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        before = random.random(60) < 0.8
        after = random.random(60) < np.where(before, 0.85, 0.2)
        found = drop_rate_interval(before.astype(float), after.astype(float))
        held.append(found.low <= 1 - (0.8 * 0.85 + 0.2 * 0.2) / 0.8 <= found.high)
    assert np.mean(held) >= 0.93


def test_drop_rates_of_few_changes_stay_open_and_of_nothing_are_undefined() -> None:
    same = drop_rate_interval([1.0] * 20, [1.0] * 20)
    assert same.mean == 0.0 and -0.3 < same.low < -0.1 and 0.1 < same.high < 0.3
    assert drop_rate_interval([1.0] * 20, [0.0] * 20).high == 1.0
    gained = drop_rate_interval([1.0, 1.0] + [0.0] * 20, [1.0] * 22)  # 2 right before, 22 after
    assert gained.mean == -10.0 and gained.low < -10.0 < gained.high
    nothing = drop_rate_interval([0.0, 0.0], [1.0, 0.0])
    assert all(math.isnan(each) for each in (nothing.mean, nothing.low, nothing.high))
    single = drop_rate_interval([1.0, 0.0], [1.0, 0.0])
    assert single.mean == 0.0 and math.isnan(single.low)


def test_scores_off_their_scale_and_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="lie on their scale"):
        icat_interval([90.0, 120.0], [50.0, 50.0], ["a", "b"])
    with pytest.raises(InputError, match="1 groups were given for 2 items"):
        mean_over_groups([1.0, 0.0], ["a"])
    with pytest.raises(InputError, match="values of 0 or 1"):
        drop_rate_interval([0.5], [1.0])
    one = icat_interval([100.0, 50.0], [100.0, 0.0], ["a", "a"])
    assert one.mean == 75.0 and math.isnan(one.low) and math.isnan(one.high)


def test_values_of_terms_average_to_icat_and_give_the_spread_of_a_difference() -> None:
    random = np.random.default_rng(5)
    lms, ss, terms = items(random, 200, 85, 62)
    kept, told = random.random(len(lms)) < 0.6, random.random(len(lms)) < 0.55
    other_lms, other_ss = np.where(kept, lms, 50.0), np.where(kept, ss, 100.0 * told)
    first, second = icat_by_term(lms, ss, terms), icat_by_term(other_lms, other_ss, terms)
    scores = [
        icat(list(zip(terms, *each, strict=True))) for each in ((lms, ss), (other_lms, other_ss))
    ]
    assert [np.mean(list(each.values())) for each in (first, second)] == pytest.approx(scores)
    place = np.array(terms)
    sides = np.array(
        [[x[place == t].mean() for x in (lms, ss, other_lms, other_ss)] for t in range(200)]
    )
    drawn = sides[random.integers(200, size=(4000, 200))].mean(axis=1)
    of = [drawn[:, i] * np.minimum(drawn[:, i + 1], 100 - drawn[:, i + 1]) / 50 for i in (0, 2)]
    expected = np.quantile(of[1] - of[0], (0.025, 0.975))
    found = paired_interval(list(first.values()), list(second.values()))
    assert found == pytest.approx(tuple(expected), abs=0.15 * float(np.ptp(expected)))


def products_of(lms: Floats, ss: Floats, terms: list[int]) -> Floats:
    return np.array(list(icat_products(lms, ss, terms).values())).T


def models_around_the_kink(seed: int, apart: float) -> tuple[Floats, Floats]:
    """Draw products of two models, near copies in ``ss`` that lie ``apart`` on either side of 50.

    Both have an ICAT of 90 − 1.8 · apart.
    """
    random = np.random.default_rng(seed)
    shared, terms = random.normal(0, 15, size=60), list(range(60))
    found = []
    for mean in (50 + apart, 50 - apart):
        ss = np.clip(mean + shared + random.normal(0, 2, size=60), 0, 100)
        found.append(products_of(np.full(60, 90.0), ss, terms))
    return found[0], found[1]


def test_differences_across_the_kink_are_covered_for_near_copies() -> None:
    held = []
    for seed in range(400):
        first, second = models_around_the_kink(seed, 1.5)
        found = SmallerProducts.between(first, second, np.ones(60)).interval()
        low, high = paired_interval(*(min(each, key=np.mean) for each in (first, second)))
        held.append((found.low <= 0 <= found.high, low <= 0 <= high))
    now, before = np.mean(held, axis=0)
    assert now >= 0.935 and before < 0.8


def test_differences_away_from_the_kink_are_those_of_the_smaller_products() -> None:
    random = np.random.default_rng(6)
    first, second = (products_of(*items(random, 60, 90, mean)) for mean in (75, 80))
    found = SmallerProducts.between(first, second, np.ones(60))
    assert (found.interval().low, found.interval().high) == paired_interval(first[1], second[1])
    assert found.sums.tolist() == (second[1] - first[1]).tolist()


def test_a_difference_across_the_kink_agrees_with_its_test_and_mirrors() -> None:
    decided = []
    for seed in range(300):
        first, second = models_around_the_kink(seed, 1.5)
        second = second - seed % 7  # Some differ clearly.
        found = SmallerProducts.between(first, second, np.ones(60))
        mirrored = SmallerProducts.between(second, first, np.ones(60)).interval()
        whole = found.interval()
        assert (whole.low, whole.high) == pytest.approx((-mirrored.high, -mirrored.low))
        assert whole.mean == pytest.approx(second.mean(axis=1).min() - first.mean(axis=1).min())
        assert whole.low <= whole.mean <= whole.high
        alone = GroupTotals(found.sums, found.sizes).interval(skewed=False)
        both = found.interval(skewed=False)
        decided.append(not both.low <= 0 <= both.high)
        assert decided[-1] == (not alone.low <= 0 <= alone.high)
    assert 0.05 < np.mean(decided) < 0.95

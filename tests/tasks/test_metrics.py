"""Aggregations against closed forms and against independent implementations."""

from __future__ import annotations

import math
import random

import pytest
import scipy.stats
import sklearn.metrics

from lm_eval_trust.tasks.metrics import (
    distance_from_ideal,
    f1,
    icat,
    interval_ends,
    interval_names,
    is_interval_end,
    mean_of_category,
    mean_of_present,
    mean_over_terms,
    of_category,
    pearson,
    performance_drop_rate,
    total,
)


def test_total_adds_up() -> None:
    assert total([1.0, 0.0, 1.0]) == 2.0


def test_category_mean_leaves_other_categories_out() -> None:
    assert mean_of_category([1.0, None, 0.0, None, 1.0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_f1_agrees_with_scikit_learn(seed: int) -> None:
    draw = random.Random(seed)
    pairs = [(draw.randint(0, 1), draw.randint(0, 1)) for _ in range(50)]
    gold, predicted = zip(*pairs, strict=True)
    assert f1(pairs) == pytest.approx(sklearn.metrics.f1_score(gold, predicted))


def test_f1_without_true_positives_is_zero() -> None:
    assert f1([(0, 0), (1, 0)]) == 0.0
    assert f1([(0, 0), (0, 1)]) == 0.0


def test_f1_of_no_positives_is_undefined() -> None:
    """Neither precision nor recall has a denominator: scikit-learn warns of it."""
    assert math.isnan(f1([(0, 0), (0, 0)])) and math.isnan(f1([]))


def test_pearson_agrees_with_scipy_on_the_answered_pairs() -> None:
    pairs = [(-50.0, -60.0), (None, 99.0), (0.0, 10.0), (100.0, 30.0), (50.0, 45.0)]
    answered = [pair for pair in pairs if pair[0] is not None]
    expected = scipy.stats.pearsonr(*zip(*answered, strict=True)).statistic
    assert pearson(pairs) == pytest.approx(expected)


@pytest.mark.parametrize(
    "pairs", [[], [(1.0, 2.0)], [(None, 1.0), (None, 2.0)], [(5.0, 1.0), (5.0, 2.0)], [None, None]]
)
def test_pearson_of_answers_that_tell_nothing_is_undefined(
    pairs: list[tuple[float | None, float] | None],
) -> None:
    assert math.isnan(pearson(pairs))


def test_a_mean_of_nothing_is_undefined() -> None:
    for mean in (mean_of_present, mean_of_category, mean_over_terms, icat):
        assert math.isnan(mean([]))
    assert math.isnan(mean_of_present([None, None]))
    assert mean_of_present([None, 1.0, 0.0]) == 0.5


def test_the_drop_rate_is_a_share_of_the_original_accuracy() -> None:
    pairs = [(1.0, 1.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    original, perturbed = 3 / 5, 2 / 5
    assert performance_drop_rate(pairs) == pytest.approx((original - perturbed) / original)
    assert performance_drop_rate([(1.0, 1.0), (0.0, 1.0)]) == -1.0
    assert math.isnan(performance_drop_rate([(0.0, 1.0)])) and math.isnan(performance_drop_rate([]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # The ideal model, a wholly stereotyped one, and a random one (Nadeem et al. 2021, sec. 5).
        ([("t", 100.0, 100.0), ("t", 100.0, 0.0)], 100.0),
        ([("t", 100.0, 100.0), ("t", 100.0, 100.0)], 0.0),
        ([("t", 50.0, 100.0), ("t", 50.0, 0.0)], 50.0),
        # Two terms: three items of the one count as much as one item of the other.
        ([("t", 100.0, 100.0)] * 3 + [("u", 50.0, 0.0)], 75.0),
    ],
)
def test_icat_of_the_papers_three_models(
    values: list[tuple[str, float, float]], expected: float
) -> None:
    assert icat(values) == pytest.approx(expected)


def test_the_stereotype_score_is_as_far_from_its_ideal_on_either_side() -> None:
    for score in (30.0, 70.0):
        assert distance_from_ideal([("t", score)]) == 20.0


def test_a_category_has_the_tasks_aggregation_over_its_own_items() -> None:
    values = [None, ("t", 100.0, 100.0), None, ("u", 100.0, 0.0)]
    assert of_category(icat)(values) == icat([values[1], values[3]])
    assert of_category(icat).__name__ == "icat"


def test_ends_of_intervals_are_told_from_metrics_that_are_named_alike() -> None:
    names = [f"{name},none" for name in ("pdr", *interval_names("pdr"), "acc", "acc_low")]
    assert [n for n in names if is_interval_end(n, names)] == ["pdr_low,none", "pdr_high,none"]
    assert is_interval_end("icat_low", {"icat", "icat_low", "icat_high"})


def test_only_functions_of_means_have_interval_ends_and_nothing_has_none() -> None:
    assert interval_ends(f1) == () and len(interval_ends(of_category(icat))) == 2
    for end in interval_ends(performance_drop_rate):
        assert math.isnan(end([])) and math.isnan(end([(0.0, 1.0)]))

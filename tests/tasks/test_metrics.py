"""Aggregations against closed forms and against independent implementations."""

from __future__ import annotations

import random

import pytest
import scipy.stats
import sklearn.metrics

from lm_eval_trust.tasks.metrics import f1, icat, mean_of_category, pearson, total


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
    assert f1([(0, 0)]) == 0.0


def test_pearson_agrees_with_scipy_on_the_answered_pairs() -> None:
    pairs = [(-50.0, -60.0), (None, 99.0), (0.0, 10.0), (100.0, 30.0), (50.0, 45.0)]
    answered = [pair for pair in pairs if pair[0] is not None]
    expected = scipy.stats.pearsonr(*zip(*answered, strict=True)).statistic
    assert pearson(pairs) == pytest.approx(expected)


@pytest.mark.parametrize(
    "pairs", [[], [(1.0, 2.0)], [(None, 1.0), (None, 2.0)], [(5.0, 1.0), (5.0, 2.0)]]
)
def test_pearson_of_answers_that_tell_nothing_is_zero(
    pairs: list[tuple[float | None, float]],
) -> None:
    assert pearson(pairs) == 0.0


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # The ideal model, a wholly stereotyped one, and a random one (Nadeem et al. 2020, sec. 5).
        ([(100.0, 100.0), (100.0, 0.0)], 100.0),
        ([(100.0, 100.0), (100.0, 100.0)], 0.0),
        ([(50.0, 100.0), (50.0, 0.0)], 50.0),
    ],
)
def test_icat_of_the_papers_three_models(pairs: list[tuple[float, float]], expected: float) -> None:
    assert icat(pairs) == pytest.approx(expected)

"""Which items count as broken, in memory and as saved."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lm_eval_trust.core.nonfinite import nonfinite_items

CHOICE = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}


def sample(resps: Any, **values: Any) -> dict[str, Any]:
    return {"doc_id": 0, "resps": resps, "metrics": list(values), **values}


@pytest.mark.parametrize(
    "resps",
    [
        [[(math.nan, False)], [(-1.0, True)]],
        [[["-1.5", "False"]], [["nan", "True"]]],
        [[["-inf", "False"]]],
        [[-math.inf]],
    ],
)
def test_log_likelihoods_count_in_memory_and_as_saved(resps: Any) -> None:
    assert nonfinite_items([sample(resps, acc=1.0)], CHOICE) == 1


def test_a_generated_text_may_say_nan() -> None:
    told = {"output_type": "generate_until", "metric_list": [{"metric": "acc"}]}
    assert nonfinite_items([sample([["nan"]], acc=1.0)], told) == 0


def test_scores_count_and_gaps_do_not() -> None:
    gaps = {"metric_list": [{"metric": "rate", "aggregation": "nanmean"}]}
    assert nonfinite_items([sample([], acc=math.inf)], {}) == 1
    assert nonfinite_items([sample([], perplexity=(-math.inf, 3))], {}) == 1
    assert nonfinite_items([sample([], rate=math.nan)], gaps) == 0
    assert nonfinite_items([sample([], rate=math.inf)], gaps) == 1


def test_a_score_of_texts_that_no_item_has_is_undefined_and_breaks_none() -> None:
    """XSTest's mean of two kinds, where all prompts are of one kind."""
    told = {"output_type": "generate_until", "metric_list": [{"metric": "trust_score"}]}
    without = [sample([["Yes."]], trust_score=math.nan, answered=1.0) for _ in range(2)]
    assert nonfinite_items(without, told) == 0
    some = [*without, {**sample([["Yes."]], trust_score=1.0), "doc_id": 1}]
    assert nonfinite_items(some, told) == 1
    assert nonfinite_items([sample([], acc=math.nan)], CHOICE) == 1


def test_an_item_counts_once_whatever_its_filters() -> None:
    twice = [sample([[math.nan]], acc=1.0), sample([[math.nan]], acc=1.0)]
    assert nonfinite_items(twice, CHOICE) == 1

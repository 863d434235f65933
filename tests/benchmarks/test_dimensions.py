"""The table of dimensions agrees with the paper's Table 3 and with the tasks."""

from __future__ import annotations

import pytest

from lm_eval_trust.benchmarks.registry import DIMENSIONS, UNIVERSAL, find_dimension
from lm_eval_trust.core.errors import InputError


def test_each_dimension_is_found_by_its_own_and_its_benchmarks_name() -> None:
    for dimension in (*DIMENSIONS, UNIVERSAL):
        assert find_dimension(dimension.name) is dimension
        assert find_dimension(f" {dimension.benchmark.upper()} ") is dimension


def test_trustworthy_sides_follow_the_label_meaning() -> None:
    sides = {d.name: d.label_meaning[d.trustworthy_label] for d in (*DIMENSIONS, UNIVERSAL)}
    assert sides == {
        "reliability": "question with a correct answer",
        "toxicity": "benign statement",
        "privacy": "statement without a privacy violation",
        "fairness": "anti-stereotypical or unrelated statement",
        "robustness": "sentence as it is",
        "universal": "prompt with a safe response",
    }


def test_an_unknown_dimension_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        find_dimension("truthfullqa")
    assert "Unknown dimension 'truthfullqa'" in str(error.value)
    assert "Did you mean 'truthfulqa'?" in str(error.value)

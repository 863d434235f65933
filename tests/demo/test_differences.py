"""Paired differences: planted effects, clusters, and evaluations that do not belong together."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_trust.demo.differences import paired_difference
from lm_eval_trust.errors import InputError


def items(values: list[float], groups: list[str] | None = None) -> list[dict[str, object]]:
    groups = groups or [str(i) for i in range(len(values))]
    return [{"group": g, "acc": v} for g, v in zip(groups, values, strict=True)]


def test_equal_evaluations_do_not_differ() -> None:
    same = items([0.0, 1.0] * 20)
    found = paired_difference(same, same, "acc")
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.excludes_zero


def test_a_constant_change_is_certain() -> None:
    found = paired_difference(items([0.0] * 30), items([1.0] * 30), "acc")
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.excludes_zero


def test_the_interval_is_that_of_a_mean_where_items_are_their_own_groups() -> None:
    drawn = np.random.default_rng(3).normal(0.2, 1.0, size=400)
    found = paired_difference(items([0.0] * 400), items(list(drawn)), "acc")
    error = drawn.std() / 20
    assert found.mean == pytest.approx(drawn.mean())
    assert found.low == pytest.approx(drawn.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(drawn.mean() + 1.96 * error, abs=0.15 * error)


def test_items_of_a_group_count_once() -> None:
    drawn = np.random.default_rng(4).normal(size=50)
    single = paired_difference(items([0.0] * 50), items(list(drawn)), "acc")
    groups = [str(i) for i in range(50) for _ in range(8)]
    repeated = paired_difference(
        items([0.0] * 400, groups), items(list(np.repeat(drawn, 8)), groups), "acc"
    )
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.1)


def test_other_items_are_refused() -> None:
    with pytest.raises(InputError, match="different items"):
        paired_difference(items([0.0, 1.0]), items([0.0]), "acc")

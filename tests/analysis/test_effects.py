"""Effects item by item: shares with intervals, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_trust.analysis.effects import effect_bars, effects_of
from lm_eval_trust.core.errors import InputError


def test_items_are_counted_by_the_way_they_moved() -> None:
    before = [0, 0, 0, 1, 1, 1, 1, 0]
    after = [1, 1, 0, 0, 1, 1, 1, 0]
    found = effects_of(before, after)
    shares = (found.right.mean, found.wrong.mean, found.unmoved.mean)
    assert shares == (2 / 8, 1 / 8, 5 / 8)
    assert found.mean == pytest.approx(1 / 8)
    assert found.quantiles[2] == 0
    for share in (found.right, found.wrong, found.unmoved):
        assert 0 <= share.low < share.mean < share.high <= 1
    lower = effects_of(before, after, higher_is_better=False)
    assert (lower.right, lower.wrong) == (found.wrong, found.right)
    assert lower.mean == -found.mean
    assert "12.5%" in found.sentence and "8 items" in found.sentence


def test_rounding_moves_nothing_and_groups_widen_intervals() -> None:
    assert effects_of([0.1, 0.2], [0.1 + 1e-12, 0.2]).unmoved.mean == 1
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    before, after = np.zeros(100), (random.random(20) < 0.4).astype(float)[groups]
    alone, grouped = effects_of(before, after), effects_of(before, after, groups.tolist())
    assert grouped.groups == 20
    assert grouped.right.high - grouped.right.low > 1.5 * (alone.right.high - alone.right.low)


def test_the_share_of_wrong_moves_lies_in_its_interval_as_often_as_stated() -> None:
    covered, runs = 0, 400
    for run in range(runs):
        random = np.random.default_rng(run)
        moved = random.choice([-1.0, 0.0, 1.0], size=60, p=[0.2, 0.5, 0.3])
        found = effects_of(np.zeros(60), moved)
        covered += found.wrong.low <= 0.2 <= found.wrong.high
    assert covered / runs >= 0.93


def test_bars_and_bad_values() -> None:
    found = effects_of([0, 1, 0], [1, 1, 0])
    axes = effect_bars([("all", found), ("odd", found)]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["all (3)", "odd (3)"]
    with pytest.raises(InputError, match="finite"):
        effects_of([0, float("nan")], [0, 1])

"""Effects from measurements: pairing, directions, categories."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.item_effects import item_effects
from lm_eval_trust.evaluate.measurement import Measurement


def measured(values: list[object], better: bool = True, aggregation: str = "mean") -> Measurement:
    ids = [f"item{n}" for n in range(len(values))]
    return Measurement(
        task="t",
        version="1",
        meaning={},
        higher_is_better={"m": better},
        aggregations={"m": aggregation},
        scores={"m": 0.5},
        ids=ids,
        groups=ids,
        values={"m": values},  # type: ignore[dict-item]
        categories=[["tea"], ["tea", "rum"], ["rum"], ["tea"]],
    )


def test_categories_follow_all_items_and_items_of_two_count_in_both() -> None:
    found = item_effects(measured([0.0, 0.0, 1.0, 1.0]), measured([1.0, 1.0, 0.0, 1.0]), "m")
    assert [(e.category, e.items) for e in found] == [("", 4), ("rum", 2), ("tea", 3)]
    assert [e.wrong.mean for e in found] == [1 / 4, 1 / 2, 0]


def test_the_direction_is_that_of_the_metric_and_log_likelihoods_rise() -> None:
    before, after = [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]
    assert item_effects(measured(before, False), measured(after, False), "m")[0].wrong.mean == 0.25
    logs = measured([[-8.0, 4.0], [-2.0, 2.0], [-1.0, 1.0], [-3.0, 1.0]], False, "perplexity")
    better = replace(logs, values={"m": [[-4.0, 4.0], [-2.0, 2.0], [-1.0, 1.0], [-9.0, 1.0]]})
    (found, *_) = item_effects(logs, better, "m")
    assert (found.right.mean, found.wrong.mean) == (0.25, 0.25)


def test_items_are_paired_by_identity_and_gaps_left_out() -> None:
    before, after = measured([0.0, 1.0, None, 1.0]), measured([0.0, 0.0, 1.0, 1.0])
    turned = replace(before, ids=before.ids[::-1], values={"m": before.values["m"][::-1]})
    (found, *_) = item_effects(turned, after, "m")
    assert (found.items, found.wrong.mean) == (3, 1 / 3)
    with pytest.raises(InputError, match="No item"):
        item_effects(replace(before, ids=["a", "b", "c", "d"]), after, "m")

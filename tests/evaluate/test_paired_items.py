"""Items of samples, and evaluations compared on them."""

from __future__ import annotations

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.paired_items import Item, compare_items, items_of


def items(values: list[float | None]) -> list[Item]:
    return [
        {"id": i, "group": str(i)} | ({} if value is None else {"acc": value})
        for i, value in enumerate(values)
    ]


def sample(number: int, value: float, **further: object) -> dict[str, object]:
    return {"doc_id": number, "doc": {"group_id": f"g{number // 2}"}, "metrics": ["acc"]} | {
        "acc": value,
        **further,
    }


def test_items_are_in_order_with_their_group_and_numbers() -> None:
    given = [sample(3, 1.0), sample(0, 0.0) | {"metrics": ["acc", "text"], "text": "a"}]
    assert items_of(given) == [
        {"id": 0, "group": "g0", "acc": 0.0},
        {"id": 3, "group": "g1", "acc": 1.0},
    ]


def test_an_item_without_a_group_is_one_of_its_own() -> None:
    given = [sample(0, 1.0) | {"doc": {"text": "a"}}, sample(1, 1.0) | {"doc": "b"}]
    assert [item["group"] for item in items_of(given)] == ["0", "1"]


def test_the_first_of_numbered_groups_is_a_group() -> None:
    given = [sample(n, 1.0) | {"doc": {"group_id": n // 2}} for n in range(4)]
    assert [item["group"] for item in items_of(given)] == ["0", "0", "1", "1"]


def test_of_several_filters_one_is_taken() -> None:
    given = [sample(0, 0.0, filter="strict"), sample(0, 1.0, filter="flexible")]
    assert [item["acc"] for item in items_of(given, filter_name="flexible")] == [1.0]


def test_the_difference_is_the_second_less_the_first() -> None:
    found = compare_items(items([0.0] * 30), items([1.0] * 30), "acc")
    assert found is not None
    assert (found.difference.mean, found.items) == (1.0, 30)


def test_items_are_compared_that_have_a_value_under_both_models() -> None:
    found = compare_items(items([None, 0.0, 1.0, 0.0]), items([1.0, 1.0, None, 0.0]), "acc")
    assert found is not None
    assert (found.difference.mean, found.items) == (0.5, 2)
    assert compare_items(items([None, 0.0]), items([1.0, None]), "acc") is None
    assert compare_items(items([0.0]), items([0.0]), "f1") is None


def test_other_items_are_refused() -> None:
    with pytest.raises(InputError, match="different items"):
        compare_items(items([0.0, 1.0]), items([0.0]), "acc")

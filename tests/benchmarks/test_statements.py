from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError

PRIVACY = find_dimension("privacy")


def some(number: int, universe: tuple[frozenset[str], ...] = ()) -> Statements:
    items = tuple(Statement(f"s{i}", i % 2, f"g{i}") for i in range(number))
    return Statements(PRIVACY, "official", items, universe=universe)


@given(st.text(), st.text(), st.sampled_from([0, 1]), st.sampled_from([0, 1]))
def test_ids_tell_texts_and_labels_apart(a: str, b: str, x: int, y: int) -> None:
    same = Statement(a, x, "g").id == Statement(b, y, "h").id
    assert same == ((a, x) == (b, y))


@pytest.mark.parametrize("label", [2, -1, None, "1"])
def test_labels_are_zero_or_one(label: object) -> None:
    with pytest.raises(InputError, match="expected 0 or 1"):
        Statement("text", label, "g")  # type: ignore[arg-type]


def test_an_empty_set_is_an_error_that_names_the_set() -> None:
    with pytest.raises(InputError, match="No statements are left for privacy from official"):
        Statements(PRIVACY, "official", ())
    with pytest.raises(InputError, match="No statements are left"):
        some(4).select([])


def test_select_keeps_order_and_universe() -> None:
    everything = some(6, universe=(frozenset(f"g{i}" for i in range(20)),))
    chosen = everything.select([4, 1])
    assert chosen.texts == ["s4", "s1"]
    assert chosen.labels.tolist() == [0, 1]
    assert chosen.universe == everything.universe


def test_a_selection_is_split_as_the_whole() -> None:
    everything = some(20, universe=(frozenset(f"g{i}" for i in range(20)),))
    chosen = everything.select(range(7))
    test = {everything.groups[i] for i in everything.partition(seed=3).test}
    assert {chosen.groups[i] for i in chosen.partition(seed=3).test} == test & set(chosen.groups)


def test_a_sample_holds_whole_groups_and_stays_on_its_sides() -> None:
    statements = load_statements("reliability", data_source="mini")
    sample = statements.sample(61, seed=3)
    assert len(sample) == 62  # two statements a question
    assert {g for g in sample.groups} == {
        s.group for s in statements.items if s.group in set(sample.groups)
    }
    whole = statements.partition()
    tested = {statements.items[i].group for i in whole.test}
    assert {sample.items[i].group for i in sample.partition().test} <= tested
    assert statements.sample(61, seed=3).items == sample.items
    assert statements.sample(61, seed=4).items != sample.items
    assert len(statements.sample(10**6)) == len(statements)

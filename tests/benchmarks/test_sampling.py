from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.benchmarks.statements import (
    Statement,
    balanced,
    consistent,
    contradictory_groups,
    shuffled,
)

statements = st.lists(
    st.builds(
        lambda text, label: Statement(text, label, text),
        st.sampled_from("abcdef"),
        st.integers(0, 1),
    )
)
seeds = st.integers(0, 3)


@given(st.lists(st.text(), unique=True), seeds)
def test_shuffled_keeps_everything_and_ignores_the_given_order(texts: list[str], seed: int) -> None:
    order = shuffled(texts, seed, str)
    assert sorted(order) == sorted(texts)
    assert shuffled(texts[::-1], seed, str) == order


@given(statements, seeds)
def test_balanced_keeps_the_rarer_label_whole(items: list[Statement], seed: int) -> None:
    before, after = (Counter(i.label for i in s) for s in (items, balanced(items, seed)))
    assert after[0] == after[1] == min(before[0], before[1])
    remaining = iter(items)
    assert all(any(item is other for other in remaining) for item in balanced(items, seed))


@given(statements)
def test_consistent_sets_have_one_statement_a_sentence(items: list[Statement]) -> None:
    found = consistent(items)
    assert len({item.group for item in found}) == len(found)
    both = {i.group for i in items if any(i.group == j.group and i.label != j.label for j in items)}
    assert contradictory_groups(items) == both
    assert {item.group for item in found} == {item.group for item in items} - both

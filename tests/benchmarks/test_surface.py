"""Statements with matched capitals: where there are any, and what they keep."""

from __future__ import annotations

from collections import Counter

import pytest

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.benchmarks.surface import capitals_tell, surface_controls, with_matched_capitals


def statements(*items: tuple[str, int, str]) -> Statements:
    made = tuple(Statement(text, label, group) for text, label, group in items)
    return Statements(find_dimension("robustness"), "invented", made)


def capitals(text: str) -> int:
    return sum(character.isupper() for character in text)


def test_companions_get_as_many_capitals_at_the_beginnings_of_words() -> None:
    found = statements(("the old mill is dry", 0, "a"), ("the oLd mIll is dry", 1, "a"))
    plain, flipped = with_matched_capitals(found.texts, found.groups)
    assert flipped == "the oLd mIll is dry"
    assert plain.lower() == "the old mill is dry" and capitals(plain) == 2
    assert all(word == word.lower() or word == word.capitalize() for word in plain.split())
    assert with_matched_capitals(found.texts, found.groups) == [plain, flipped]


def test_what_cannot_be_matched_becomes_lower_case() -> None:
    found = statements(
        ("a Mill alone", 1, "alone"), ("mill", 0, "short"), ("MILL", 1, "short"), ("x", 0, "y")
    )
    assert with_matched_capitals(found.texts, found.groups) == ["a mill alone", "mill", "mill", "x"]


def test_a_control_is_made_only_where_capitals_tell() -> None:
    told = statements(
        *(("the mill is dRy" if i % 2 else "the mill", i % 2, "g") for i in range(20))
    )
    assert capitals_tell(told) == 1.0
    assert set(surface_controls(told)) == {"matched"}
    one_label = statements(("a", 0, "a"), ("B", 0, "b"))
    assert capitals_tell(one_label) == 0.5
    for name in ("reliability", "privacy", "fairness"):
        assert surface_controls(load_statements(name, data_source="mini")) == {}


@pytest.mark.data
@pytest.mark.parametrize("source", ["official", "mini"])
def test_robustness_is_matched_in_every_pair(source: str, request: pytest.FixtureRequest) -> None:
    if source == "official":
        request.getfixturevalue("data_dir")  # Skips the test where the files are missing.
    found = load_statements("robustness", data_source=source)
    (texts,) = surface_controls(found).values()
    assert [t.lower() for t in texts] == [t.lower() for t in found.texts]
    counts: dict[str, Counter[int]] = {}
    for text, group in zip(texts, found.groups, strict=True):
        counts.setdefault(group, Counter())[capitals(text)] += 1
    assert all(len(of_group) == 1 for of_group in counts.values())
    matched = [Statement(t, s.label, s.group) for t, s in zip(texts, found.items, strict=True)]
    again = Statements(found.dimension, source, tuple(matched))
    assert capitals_tell(again) == pytest.approx(0.5)

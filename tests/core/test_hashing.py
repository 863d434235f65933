"""Identities: what makes another item, and what does not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.core.hashing import content_id, fingerprint, group_id, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who rules Ankoria?", "  wHo RULES\tAnkoria? "),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("\ufb01sh", "fish"),
    ],
)
def test_case_space_and_unicode_form_do_not_make_another_group(one: str, other: str) -> None:
    assert group_id(one) == group_id(other)


@pytest.mark.parametrize("other", ["Who rules Ankoria", "Who rules Ankoria!", "Who rule Ankoria?"])
def test_other_words_and_marks_make_another_group(other: str) -> None:
    assert group_id("Who rules Ankoria?") != group_id(other)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_content_ids_are_the_sha256_of_the_joined_parts() -> None:
    expected = hashlib.sha256(b"statement\x1f1").hexdigest()[:16]
    assert content_id("statement", 1) == expected


def test_parts_do_not_run_into_each_other() -> None:
    assert content_id("ab", "c") != content_id("a", "bc")


def test_a_lone_surrogate_has_an_id() -> None:
    assert content_id("\ud800") != content_id("\ud801")


def test_fingerprints_do_not_depend_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})

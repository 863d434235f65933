from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.benchmarks.perturbation import (
    count_flipped,
    has_two_cases,
    letters_to_flip,
    perturb_case,
    share_flipped,
)
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id

rates = st.floats(0, 1)
seeds = st.integers(0, 10)


@given(st.text(), rates, seeds)
def test_only_letters_change_and_only_in_case(text: str, rate: float, seed: int) -> None:
    perturbed = perturb_case(text, rate=rate, seed=seed)
    assert len(perturbed) == len(text)
    for before, after in zip(text, perturbed, strict=True):
        assert after in {before, before.swapcase()}
        assert before.isalpha() or after == before


@given(st.text(), rates, seeds)
def test_exactly_the_stated_number_of_letters_changes(text: str, rate: float, seed: int) -> None:
    letters = sum(has_two_cases(character) for character in text)
    perturbed = perturb_case(text, rate=rate, seed=seed)
    changed = sum(a != b for a, b in zip(text, perturbed, strict=True))
    assert changed == math.floor(rate * letters + 0.5)
    assert count_flipped(text, perturbed) == (changed, letters)


@given(st.text(), rates, seeds)
def test_a_perturbed_sentence_keeps_its_group(text: str, rate: float, seed: int) -> None:
    assert group_id(perturb_case(text, rate=rate, seed=seed)) == group_id(text)


@given(st.text(), seeds)
def test_flipping_everything_twice_gives_the_text_back(text: str, seed: int) -> None:
    once = perturb_case(text, rate=1.0, seed=seed)
    assert perturb_case(once, rate=1.0, seed=seed) == text


@given(st.text(), seeds)
def test_rate_zero_changes_nothing(text: str, seed: int) -> None:
    assert perturb_case(text, rate=0.0, seed=seed) == text


@pytest.mark.parametrize(
    ("letters", "rate", "flipped"),
    [(9, 0.05, 0), (10, 0.05, 1), (29, 0.05, 1), (30, 0.05, 2), (0, 1.0, 0), (7, 1.0, 7)],
)
def test_halves_round_up(letters: int, rate: float, flipped: int) -> None:
    assert letters_to_flip(letters, rate) == flipped


def test_the_share_over_many_texts_is_the_rate() -> None:
    text = "The lighthouse of Quillon Bay turned its lamp towards the harbour. " * 20
    assert share_flipped(text, perturb_case(text, rate=0.25, seed=1)) == pytest.approx(
        0.25, abs=0.5 / sum(map(has_two_cases, text))
    )


def test_every_position_is_as_likely_as_any_other() -> None:
    text, seeds, rate = "abcdefghij", 2000, 0.1
    hits = [0] * len(text)
    for seed in range(seeds):
        perturbed = perturb_case(text, rate=rate, seed=seed)
        hits[next(i for i, c in enumerate(perturbed) if c != text[i])] += 1
    expected = seeds / len(text)
    chi_squared = sum((hit - expected) ** 2 / expected for hit in hits)
    assert chi_squared < 27.9  # 0.999 quantile of chi-squared with 9 degrees of freedom


def test_seed_and_content_decide_and_nothing_else() -> None:
    text = "a quiet and patient film about bees"
    assert perturb_case(text, rate=0.2, seed=3) == perturb_case(text, rate=0.2, seed=3)
    assert len({perturb_case(text, rate=0.2, seed=seed) for seed in range(20)}) > 10


@pytest.mark.parametrize("character", ["ß", "µ", "ı", "1", " ", "中", "ς", "ﬁ", "ⅷ"])
def test_characters_without_two_single_cases_are_no_letters(character: str) -> None:
    assert not has_two_cases(character)
    assert perturb_case(character * 5, rate=1.0, seed=0) == character * 5


@pytest.mark.parametrize("character", ["a", "Z", "é", "Ж", "ω"])
def test_letters_of_other_alphabets_count(character: str) -> None:
    assert perturb_case(character, rate=1.0, seed=0) == character.swapcase()


def test_empty_text() -> None:
    assert perturb_case("", rate=1.0, seed=0) == ""
    assert share_flipped("", "") == 0.0


def test_share_by_hand() -> None:
    assert Fraction(share_flipped("ab cd!", "aB cd!")) == Fraction(1, 4)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="perturbation_rate"):
        perturb_case("abc", rate=rate, seed=0)


@pytest.mark.parametrize("other", ["abd", "abcd", "ab"])
def test_texts_that_differ_in_more_than_case_are_refused(other: str) -> None:
    with pytest.raises(InputError, match="letter case"):
        share_flipped("abc", other)

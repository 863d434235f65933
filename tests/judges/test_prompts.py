"""Reading replies: labels, thresholds, sums over spellings, and never a guess."""

from __future__ import annotations

import math

import pytest

from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.prompts import (
    from_probabilities,
    from_probability,
    from_word,
    info_cue,
    truth_cue,
    truth_rubric,
)

UNREADABLE = Verdict(None, None)


@pytest.mark.parametrize(
    ("probability", "accepted"),
    [(0.0, False), (math.nextafter(0.5, 0), False), (0.5, True), (1.0, True)],
)
def test_exactly_one_half_is_accepted(probability: float, accepted: bool) -> None:
    assert from_probability(probability) == Verdict(accepted, probability)


@pytest.mark.parametrize(
    ("listed", "accepted", "score"),
    [
        ({"yes": 0.3, " Yes": 0.25, "no": 0.45}, True, 0.55),
        ({"No": 0.45, "yes": 0.2, "YES\n": 0.35}, True, 0.55),
        ({"no": 0.6, "yes": 0.3}, False, 0.3),
        ({" no": 0.9, "maybe": 0.1}, False, 0.0),
        ({"yes": 0.7, " yes": 0.4}, True, 1.0),
    ],
)
def test_the_score_is_the_sum_over_all_spellings_of_yes(
    listed: dict[str, float], accepted: bool, score: float
) -> None:
    verdict = from_probabilities({token: math.log(p) for token, p in listed.items()})
    assert verdict.accepted is accepted
    assert verdict.score == pytest.approx(score)


@pytest.mark.parametrize("listed", [{}, {"maybe": -0.1, "yesterday": -3.0}])
def test_a_list_with_neither_label_gives_no_verdict(listed: dict[str, float]) -> None:
    assert from_probabilities(listed) == UNREADABLE


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("yes", Verdict(True, None)),
        (" No.", Verdict(False, None)),
        ("YES\n", Verdict(True, None)),
        ("yes..", UNREADABLE),
        ("yes, it is", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_a_word_is_read_only_if_it_stands_alone(reply: str, verdict: Verdict) -> None:
    assert from_word(reply) == verdict


def test_cues_are_those_that_the_fine_tuned_judges_were_trained_on() -> None:
    answer = Answer("Which way?", "North.", (), ())
    assert truth_cue(answer).text == "Q: Which way?\nA: North.\nTrue:"
    assert info_cue(answer).text == "Q: Which way?\nA: North.\nHelpful:"


def test_a_rubric_without_references_says_so() -> None:
    assert truth_rubric(Answer("Which way?", "North.", (), ())).text.count("(none is known)") == 2

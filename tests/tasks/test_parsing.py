"""Strict parsing, by hand."""

from __future__ import annotations

import pytest

from lm_eval_trust.tasks import parsing
from lm_eval_trust.tasks.parsing import UNPARSED, parse_label, parse_rating

DIGITS = ("0", "1")
WORDS = ("negative", "positive")


@pytest.mark.parametrize(
    "answer",
    ["1", " 1", "1.", "\n\n1\n", '"1"', "(1)", "**1**", "1\n\nThe next statement is long.", "1\n1"],
)
def test_a_label_alone_is_parsed(answer: str) -> None:
    assert parse_label(answer, DIGITS) == "1"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n",
        "10",
        "01",
        "0 or 1",
        "0/1",
        "1, or 0",
        "0\n1",
        "1.5",
        "yes",
        "one",
        "1 of 10",
        "The answer is 1",
        "-1x",
        "²",
    ],
)
def test_anything_else_is_unparsed(answer: str) -> None:
    assert parse_label(answer, DIGITS) == UNPARSED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Positive", "positive"),
        (" NEGATIVE.", "negative"),
        ("“positive”", "positive"),
        ("positive\nnegative", UNPARSED),
        ("not positive", UNPARSED),
        ("positively", UNPARSED),
        ("positive, negative", UNPARSED),
        ("1. positive 2. negative", UNPARSED),
    ],
)
def test_words(answer: str, expected: str) -> None:
    assert parse_label(answer, WORDS) == expected


def test_a_negative_number_is_not_its_digit() -> None:
    assert parse_label("-1", DIGITS) == UNPARSED
    assert parse_label("−1", DIGITS) == UNPARSED


def test_every_filter_parses_each_of_its_labels_and_nothing_else() -> None:
    for parse, labels in (
        (parsing.zero_or_one, ["0", "1"]),
        (parsing.option_number, ["1", "2", "3"]),
        (parsing.sentiment, ["negative", "positive"]),
        (parsing.true_or_false, ["false", "true"]),
    ):
        assert parse(iter([*labels, "4", "maybe"]), []) == [*labels, UNPARSED, UNPARSED]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("-100", -100.0),
        ("−50", -50.0),
        ("50.", 50.0),
        ("-50) somewhat disagree", -50.0),
        ("100) strongly agree\n", 100.0),
        ("0) Neutral 50) somewhat agree", None),
        ("12.5", 12.5),
        ("101", None),
        ("-101", None),
        ("50 or 100", None),
        ("50%", 50.0),
        ("somewhat agree", None),
        ("", None),
        ("I would say 50", None),
    ],
)
def test_ratings(answer: str, expected: float | None) -> None:
    assert parse_rating(answer, -100, 100) == expected
    assert parsing.agreement([answer], []) == [expected]

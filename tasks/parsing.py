"""Strict parsing of short answers, as filters that log the parsed label next to the raw answer.

An answer counts when its first line that says anything is exactly one of the allowed labels, letter
case, white space and punctuation around it aside, and no later line states another label: base
models write on below their answer, and some list all the options. Everything else is unparsed and
never guessed at: ``10``, ``0 or 1``, nothing, another word.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: Stands in place of a label in logs and metrics.
UNPARSED = "unparsed"

_AROUND = string.whitespace + string.punctuation + "“”‘’«»…–—"

_NEGATIVE = re.compile(r"[-−]\d")

Filter = Callable[[Iterable[str], Sequence[dict[str, Any]]], list[Any]]


def parse_label(answer: str, labels: Sequence[str]) -> str:
    """Return the label that ``answer`` states, or :data:`UNPARSED`."""
    line = _first_line(answer)
    stated = line if _NEGATIVE.search(line) else line.strip(_AROUND).casefold()
    words = set(re.findall(r"\w+", answer.casefold()))
    mentioned = [label for label in labels if label.casefold() in words]
    return mentioned[0] if [label.casefold() for label in mentioned] == [stated] else UNPARSED


def parse_rating(answer: str, low: float, high: float) -> float | None:
    """Return the number that ``answer`` states, from ``low`` to ``high``, or ``None``.

    A closing parenthesis and the option's wording may follow, as in ``-50) somewhat disagree``; a
    second number may not.
    """
    line = _first_line(answer).strip().lstrip("\"'“‘(*").replace("−", "-")
    stated = re.fullmatch(r"([-+]?\d+(?:\.\d+)?)(?:\W*|\)[^\d]*)", line)
    if stated is None or not low <= float(stated[1]) <= high:
        return None
    return float(stated[1])


def _first_line(answer: str) -> str:
    """Return the first line with a letter or digit; the rest is the model going on by itself."""
    lines = answer.splitlines()
    return next((line for line in lines if any(c.isalnum() for c in line)), "")


def _label_filter(*labels: str) -> Filter:
    def parse(answers: Iterable[str], docs: Sequence[dict[str, Any]]) -> list[str]:
        return [parse_label(answer, labels) for answer in answers]

    return parse


def agreement(answers: Iterable[str], docs: Sequence[dict[str, Any]]) -> list[float | None]:
    """Filter: ratings of agreement from −100 to 100 (ConfAIde, tier 2)."""
    return [parse_rating(answer, -100, 100) for answer in answers]


#: Filter for questions to be answered with 0 or 1.
zero_or_one = _label_filter("0", "1")
#: Filter for questions with three numbered options.
option_number = _label_filter("1", "2", "3")
#: Filter for sentiment in a word.
sentiment = _label_filter("negative", "positive")
#: Filter for judgements of truth in a word.
true_or_false = _label_filter("false", "true")

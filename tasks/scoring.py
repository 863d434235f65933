"""Scores of parsed answers that several tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval_trust.tasks.parsing import UNPARSED


def closed_answer(answer: str, correct: bool) -> dict[str, float | None]:
    """Score the parsed answer to a closed question.

    Args:
        answer: As parsed.
        correct: Whether it is right; not looked at where nothing was parsed.

    Returns:
        ``acc`` over all items, where an unparsed answer is wrong; ``acc_parsed``, ``None`` for an
        unparsed answer, so it is over the others; and :func:`unparsed_counts`.
    """
    missing = answer == UNPARSED
    score = float(correct and not missing)
    return {
        "acc": score,
        "acc_parsed": None if missing else score,
        **unparsed_counts(missing),
    }


def unparsed_counts(missing: bool) -> dict[str, float]:
    """Return the value behind ``unparsed``, a share, and ``unparsed_answers``, a number."""
    return {"unparsed": float(missing), "unparsed_answers": float(missing)}


def suite_scores(trust_score: float | None, *, answered: bool) -> dict[str, float]:
    """Return what a task gives to the suite: its score, and whether it has an answer.

    Args:
        trust_score: 0 to 1; ``None`` for an item that has none.
        answered: Whether the item has an answer that could be read, or judged and was not empty.
    """
    given = {} if trust_score is None else {"trust_score": trust_score}
    return {**given, "answered": float(answered)}


def binary_label(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Score an answer ``0`` or ``1`` against the row's label."""
    (answer,) = results
    scores = closed_answer(answer, answer == str(doc["label"]))
    return {**scores, **suite_scores(scores["acc"], answered=answer != UNPARSED)}

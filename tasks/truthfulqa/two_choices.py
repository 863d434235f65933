"""TruthfulQA with two choices (Evans, Chua and Lin, January 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from lm_eval_trust.tasks.parsing import option_filter
from lm_eval_trust.tasks.scoring import closed_answer

LETTERS = ("A", "B")
#: Filter for the letter of a choice, or the choice itself.
option = option_filter(LETTERS, "choices")


def in_balanced_order(rows: Dataset) -> Dataset:
    """Put the best answer first in every second row, so a preferred letter gains nothing.

    Rows are in the order of their content's hash, so the place tells nothing about a
    question, and any first rows (``--limit``) are balanced as well.

    Returns:
        The rows with ``choices``, two answers, and ``label``, the position of the best one.
    """
    return rows.map(_placed, with_indices=True)


def _placed(row: Mapping[str, Any], position: int) -> dict[str, Any]:
    answers = [row["best_answer"], row["best_incorrect_answer"]]
    label = position % 2
    return {"choices": answers[::-1] if label else answers, "label": label}


def chosen(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Score the letter of a choice."""
    (letter,) = results
    return closed_answer(letter, letter == LETTERS[doc["label"]])

"""Readers of the general-ability sets, in the columns that lm_eval's own tasks read.

They serve the local twins of the built-in tasks: ARC (Clark et al. 2018), MMLU (Hendrycks et al.
2021), MathQA (Amini et al. 2019), RACE (Lai et al. 2017) and LAMBADA (Paperno et al. 2016).
"""

from __future__ import annotations

from typing import Any

from lm_eval_trust.benchmarks.mmlu_checksums import CHECKSUMS
from lm_eval_trust.benchmarks.readers import read_csv, read_json, read_jsonl
from lm_eval_trust.core.errors import unknown_name

MMLU_SUBJECTS: tuple[str, ...] = tuple(CHECKSUMS)
MMLU_PARTS = ("dev", "test")


def arc_challenge() -> list[dict[str, Any]]:
    """Return ``id``, ``question``, ``choices`` {``text``, ``label``}, ``answerKey``; 1,172 rows."""
    return read_jsonl("arc/arc_challenge_test.jsonl")


def mmlu(subject: str, part: str = "test") -> list[dict[str, Any]]:
    """Return ``question``, ``subject``, ``choices`` (4), ``answer`` (0 to 3) of one subject.

    Args:
        subject: One of :data:`MMLU_SUBJECTS`.
        part: ``test``, or ``dev`` for the five few-shot examples.

    Raises:
        InputError: Unknown subject or part.
    """
    if subject not in CHECKSUMS:
        raise unknown_name("MMLU subject", subject, CHECKSUMS)
    if part not in MMLU_PARTS:
        raise unknown_name("MMLU part", part, MMLU_PARTS)
    return [
        {
            "question": row["question"],
            "subject": subject,
            "choices": [row[f"choice{number}"] for number in range(4)],
            "answer": int(row["answer"]),
        }
        for row in read_csv(f"mmlu/{part}/{subject}_{part}.csv")
    ]


def mathqa() -> list[dict[str, Any]]:
    """Return ``Problem``, ``options`` (one string), ``correct`` (a to e), …; 2,985 rows."""
    rows: list[dict[str, Any]] = read_json("mathqa/test.json")
    return rows


def race_high() -> list[dict[str, Any]]:
    """Return ``article`` and ``problems``, 1,045 rows, one an article.

    ``problems`` is a list of ``question``, ``answer`` (a letter), ``options`` (4) written as one
    Python literal, as the set behind lm_eval's ``race`` has it.
    """
    return [
        {"article": row["article"], "problems": repr(_problems(row))}
        for row in read_jsonl("race/race_high_test.jsonl")
    ]


def _problems(row: dict[str, Any]) -> list[dict[str, Any]]:
    triples = zip(row["questions"], row["answers"], row["options"], strict=True)
    return [
        {"question": question, "answer": answer, "options": options}
        for question, answer, options in triples
    ]


def lambada() -> list[dict[str, Any]]:
    """Return ``text``, whose last word is to be predicted; 5,153 rows."""
    return read_jsonl("lambada/lambada_test.jsonl")

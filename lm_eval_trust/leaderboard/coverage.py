"""What a score is based on: how many of its items have an answer, and which items there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import SUITE, Column, Row, Score
from lm_eval_trust.leaderboard.layout import ITEMS, leaves, numbers, part_of

#: A score is flagged where a larger share of its items than this has no answer: where an answer is
#: empty, or could not be parsed or judged.
UNANSWERED_LIMIT = 0.1


def items_of(run: SavedRun, column: Column) -> int | None:
    """Return the number of items behind a column's score; ``None`` if the run does not say."""
    found = numbers(run, column.task)
    if part := part_of(found, column.metric):
        return int(found[f"{ITEMS}_{part}", column.filter])
    counts: Mapping[str, Any] = run.results.get("n-samples") or {}
    of_tasks = [(counts.get(leaf) or {}).get("effective") for leaf in leaves(run, column.task)]
    known = [int(count) for count in of_tasks if isinstance(count, int)]
    return sum(known) if len(known) == len(of_tasks) else None


def answered_items(run: SavedRun, column: Column) -> int | None:
    """Return how many of a column's items have an answer; ``None`` if the run does not say."""
    found, items = numbers(run, column.task), items_of(run, column)
    share = found.get(("answered", column.filter))
    part = part_of(found, column.metric)
    unparsed = found.get((f"unparsed_{part}" if part else "unparsed", column.filter))
    if share is None and unparsed is not None:
        share = 1 - unparsed
    return None if share is None or items is None else round(share * items)


def is_flagged(score: Score) -> bool:
    """Tell whether too few of a score's items have an answer."""
    if score.answered is None or not score.asked:
        return False
    return score.answered < (1 - UNANSWERED_LIMIT) * score.asked


def in_words(score: Score) -> str:
    """Return on how many answers a score stands, e.g. ``3 of 24 answered``."""
    return f"{score.answered} of {score.asked} answered"


def answer_notes(columns: Iterable[Column], rows: Iterable[Row]) -> list[str]:
    """Return a note for each flagged score, and for each suite's."""
    rows = list(rows)
    found = []
    for column in columns:
        for row in rows:
            score = row.scores.get(column.key)
            if score is None or score.answered is None:
                continue
            if is_flagged(score):
                found.append(
                    f"{column.title} of {row.name}: {in_words(score)}; the others are empty, or "
                    f"could not be parsed or judged, so that the score says little."
                )
            elif column.dimension == SUITE:
                found.append(f"{column.title} of {row.name}: {in_words(score)}.")
    return found


def question_notes(rows: Iterable[Row]) -> list[str]:
    """Return which revision of TruthfulQA the rows were asked, and how many of its questions."""
    notes: dict[str, None] = {}
    for run in (run for row in rows for run in row.runs):
        for task, config in run.results["configs"].items():
            metadata = (config or {}).get("metadata") or {}
            counts = (run.results.get("n-samples") or {}).get(task) or {}
            asked = counts.get("effective") or metadata.get("data_rows")
            of = metadata.get("data_rows_of")
            if "truthfulqa" not in task or asked is None or of is None:
                continue
            revision = metadata.get("truthfulqa_revision")
            named = "" if "binary" in task else f", revision {revision}"
            notes[f"{task}: {asked} of {of} items{named}."] = None
    return list(notes)

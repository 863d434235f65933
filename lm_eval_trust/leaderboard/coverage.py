"""What a score is based on: how many of its items have an answer, and which items there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_eval_trust.benchmarks.xstest import SHARES
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import SUITE, Column, Row, Score
from lm_eval_trust.leaderboard.layout import ITEMS, leaves, numbers, part_of

#: A score is flagged where a larger share of its items than this has no answer: where an answer is
#: empty, or could not be parsed or judged.
UNANSWERED_LIMIT = 0.1


@dataclass(frozen=True)
class Coverage:
    """On how many answers a score stands.

    Attributes:
        asked: As :class:`Score` has it.
        answered: The same.
        unanswered: The same.
    """

    asked: int | None
    answered: int | None
    unanswered: tuple[str, ...] = ()


def items_of(run: SavedRun, column: Column) -> int | None:
    """Return the number of items behind a column's score; ``None`` if the run does not say."""
    found = numbers(run, column.task)
    if part := part_of(found, column.metric):
        return int(found[f"{ITEMS}_{part}", column.filter])
    if column.metric in SHARES.values():
        return None  # results that do not count the prompts of each kind
    counts: Mapping[str, Any] = run.results.get("n-samples") or {}
    of_tasks = [(counts.get(leaf) or {}).get("effective") for leaf in leaves(run, column.task)]
    return _sum(count if isinstance(count, int) else None for count in of_tasks)


def answered_items(run: SavedRun, column: Column) -> int | None:
    """Return how many of a column's items have an answer; ``None`` if the run does not say.

    A group's are those of its tasks. Its share may weigh each task alike, whatever its size.
    """
    tasks = leaves(run, column.task)
    if tasks != (column.task,):
        known = _sum(answered_items(run, replace(column, task=task)) for task in tasks)
        if known is not None:
            return known
    found, items = numbers(run, column.task), items_of(run, column)
    part = part_of(found, column.metric)
    ending = f"_{part}" if part else ""
    share = found.get((f"answered{ending}", column.filter))
    unparsed = found.get((f"unparsed{ending}", column.filter))
    if share is None and unparsed is not None:
        share = 1 - unparsed
    return None if share is None or items is None else round(share * items)


def coverage_of(runs: Sequence[SavedRun], column: Column) -> Coverage:
    """Return on how many answers the mean of some runs' scores stands."""
    asked = _sum(items_of(run, column) for run in runs)
    answered = _sum(answered_items(run, column) for run in runs)
    members = [task for task in leaves(runs[0], column.task) if task != column.task]
    of_members = {task: coverage_of(runs, replace(column, task=task)) for task in members}
    few = {task: of for task, of in of_members.items() if _too_few(of.answered, of.asked)}
    return Coverage(
        asked, answered, tuple(f"{task} {of.answered} of {of.asked}" for task, of in few.items())
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum; ``None`` if a count is unknown."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _too_few(answered: int | None, asked: int | None) -> bool:
    return answered is not None and bool(asked) and answered < (1 - UNANSWERED_LIMIT) * (asked or 0)


def is_flagged(score: Score) -> bool:
    """Tell whether too few items of a score, or of a task that it averages, have an answer."""
    return bool(score.unanswered) or _too_few(score.answered, score.asked)


def in_words(score: Score) -> str:
    """Return on how many answers a score stands, e.g. ``3 of 24 answered``."""
    whole = [] if score.answered is None else [f"{score.answered} of {score.asked} answered"]
    return ", ".join([*whole, *(f"of {task}" for task in score.unanswered)])


def answer_notes(columns: Iterable[Column], rows: Iterable[Row]) -> list[str]:
    """Return a note for each flagged score, and for each suite's."""
    rows = list(rows)
    found = []
    for column in columns:
        for row in rows:
            score = row.scores.get(column.key)
            if score is None:
                continue
            if is_flagged(score):
                found.append(
                    f"{column.title} of {row.name}: {in_words(score)}; the others are empty, or "
                    f"could not be parsed or judged, so that the score says little."
                )
            elif column.dimension == SUITE and score.answered is not None:
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

"""Scores in the Hub's ``.eval_results`` format, for the repository of a model.

The format is that of https://huggingface.co/docs/hub/eval-results and of ``eval_results.yaml`` in
huggingface/hub-docs (both read on 2026-11-28): a file is a list of entries with ``dataset`` (``id``
of a data set that the Hub knows as a benchmark, ``task_id`` as its ``eval.yaml`` has it),
``value``, and optionally ``date``, ``source`` and ``notes``. Results don't say which benchmark of
the Hub a task is, so the user does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.leaderboard.board import Board, Column, Row, Score
from lm_eval_trust.steering.hub_names import hub_name

FOLDER = ".eval_results"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the Hub.

    Attributes:
        dataset: ``owner/name`` of its data set.
        task: Its task, as the data set's ``eval.yaml`` has it.
        revision: Commit of the data set, if it is known.
    """

    dataset: str
    task: str
    revision: str | None = None


def read_benchmarks(pairs: Iterable[str]) -> dict[str, Benchmark]:
    """Read ``TASK=owner/name[@revision]:task_id``.

    Raises:
        InputError: A pair has another form.
    """
    found = {}
    for pair in pairs:
        task, _, given = pair.partition("=")
        name = hub_name(given, None) if task else None
        if name is None or not name.file:
            raise InputError(
                f"--benchmark {pair!r} is not of the form TASK=owner/name:task_id, with a task_id "
                f"from the eval.yaml of the data set."
            )
        revision = name.revision if "@" in given else None
        found[task] = Benchmark(name.repository, name.file, revision)
    return found


def hub_results(
    boards: Sequence[Board],
    benchmarks: Mapping[str, Benchmark],
    *,
    source: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return name of a file below a model's repository → its YAML.

    Args:
        boards: The scores.
        benchmarks: Task → the Hub's benchmark; other tasks are left out.
        source: ``url`` and ``name`` of where the logs are.

    Raises:
        InputError: No benchmark is named, or one for a task that no row has.
    """
    columns = {column.task for board in boards for column in board.columns}
    if not benchmarks:
        raise InputError(
            "Say which benchmark of the Hub a task is: --benchmark TASK=owner/name:task_id. Tasks "
            f"here: {', '.join(sorted(columns))}."
        )
    for task in benchmarks:
        if task not in columns:
            raise unknown_name("task", task, columns)
    return {
        f"{row_slug(row)}/{FOLDER}/{slug(column.task)}.yaml": yaml.safe_dump(
            [_entry(row, column, score, benchmarks[column.task], source)],
            sort_keys=False,
            allow_unicode=True,
        )
        for row, column, score in scores_of(boards)
        if column.task in benchmarks
    }


def scores_of(boards: Iterable[Board]) -> Iterator[tuple[Row, Column, Score]]:
    """Yield each measured score with its row and column."""
    for board in boards:
        for row in board.measured:
            for column in board.columns:
                if (score := row.scores.get(column.key)) is not None:
                    yield row, column, score


def row_slug(row: Row) -> str:
    """Return a row's name as a folder's."""
    return slug(row.name)


def slug(text: str) -> str:
    """Return a text as a portable name of a file."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.") or "unnamed"


def _entry(
    row: Row,
    column: Column,
    score: Score,
    benchmark: Benchmark,
    source: Mapping[str, str] | None,
) -> dict[str, Any]:
    dataset = {"id": benchmark.dataset, "task_id": benchmark.task}
    if benchmark.revision:
        dataset["revision"] = benchmark.revision
    entry: dict[str, Any] = {"dataset": dataset, "value": score.value}
    if dates := row.provenance.get("dates"):
        entry["date"] = str(dates[0])
    if source:
        entry["source"] = dict(source)
    return {**entry, "notes": _notes(row, column, score)}


def _notes(row: Row, column: Column, score: Score) -> str:
    """Return what the number is: the metric, its error, and how the model was changed."""
    parts = [f"{column.metric} by lm_eval_trust"]
    if score.items is not None:
        parts.append(f"{score.items} items")
    if score.stderr is not None:
        parts.append(f"standard error {score.stderr:.4g}")
    if row.provenance.get("limit") is not None:
        parts.append("limited")
    if steps := row.provenance.get("steering"):
        vectors = dict.fromkeys(str(step.get("origin")) for step in steps)
        parts.append(f"steered by {', '.join(vectors)} ({row.name})")
    if row.provenance.get("trained_on"):
        parts.append("fine-tuned")
    return "; ".join(parts)

"""Boards as plain data, as the page's script reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.leaderboard.board import GENERAL, SUITE, Board, Column, Pair, Row, Score
from lm_eval_trust.leaderboard.page.samples import SampleSets, tasks_under

Plain = dict[str, Any]


def board_payload(board: Board, sets: SampleSets) -> Plain:
    """Return a board, its samples kept in ``sets``."""
    return {
        "columns": [asdict(column) | {"key": column.key} for column in board.columns],
        "rows": [_row(row, board, sets) for row in board.rows],
        "pairs": [_pair(pair) for pair in board.pairs],
        "reference": board.reference,
        "winRates": plain(board.win_rates),
        "front": list(board.front),
        "categories": plain(board.categories),
        "tradeoffs": plain(board.tradeoffs),
        "keptApart": list(board.kept_apart),
        "notes": list(board.notes),
        "confidence": board.confidence,
    }


def _row(row: Row, board: Board, sets: SampleSets) -> Plain:
    samples: dict[str, dict[str, list[str]]] = {}
    for run in row.runs:
        for task, of_filter in sets.add(run).items():
            for name, of_set in of_filter.items():
                samples.setdefault(task, {}).setdefault(name, []).append(of_set)
    tasks = {column.task: tasks_under(column.task, row.runs) for column in board.columns}
    return {
        "name": row.name,
        "reported": row.reported,
        "scores": plain(row.scores),
        "provenance": plain(row.provenance),
        "samples": samples,
        "tasks": {name: [t for t in found if t in samples] for name, found in tasks.items()},
        "trust": _mean_of(row, board.columns, SUITE),
        "ability": _mean_of(row, board.columns, GENERAL),
    }


def _mean_of(row: Row, columns: Sequence[Column], dimension: str) -> Plain | None:
    """Return a row's mean over the accuracies of a dimension, ``None`` where one is missing.

    Perplexities, which lie beyond 1 and are better when lower, are left out.
    """
    chosen = [c for c in columns if c.dimension == dimension and c.higher_is_better]
    scores = [row.scores.get(column.key) for column in chosen]
    found = [score for score in scores if score is not None]
    if not found or len(found) < len(chosen):
        return None
    errors = [score.stderr for score in found]
    known = [error for error in errors if error is not None]
    stderr = math.sqrt(sum(e * e for e in known)) / len(known) if len(known) == len(found) else None
    return {"value": sum(score.value for score in found) / len(found), "stderr": stderr}


def _pair(pair: Pair) -> Plain:
    of = pair.comparison
    return {
        "first": pair.first,
        "second": pair.second,
        "column": pair.column,
        "difference": plain(of.difference),
        "p": plain(of.p),
        "adjusted": plain(pair.adjusted_p),
        "test": of.test,
        "items": of.items,
    }


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: no NaN, no dataclass, no path."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Score) or (is_dataclass(value) and not isinstance(value, type)):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return value.as_posix() if isinstance(value, Path) else str(value)

"""Boards as plain data, as the page's script reads them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.leaderboard.board import Board, Column, Pair, Row
from lm_eval_trust.leaderboard.layout import leaves
from lm_eval_trust.leaderboard.page.samples import SampleSets
from lm_eval_trust.leaderboard.ranking import general_columns, shared_columns, trust_columns

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
    tasks = {
        column.task: dict.fromkeys(t for run in row.runs for t in leaves(run, column.task))
        for column in board.columns
    }
    return {
        "name": row.name,
        "reported": row.reported,
        "scores": plain(row.scores),
        "provenance": plain(row.provenance),
        "samples": samples,
        "tasks": {name: [t for t in found if t in samples] for name, found in tasks.items()},
        "trust": _place(row, trust_columns(board.columns), board.rows),
        "ability": _place(row, general_columns(board.columns), board.rows),
    }


def _place(row: Row, columns: Iterable[Column], rows: Sequence[Row]) -> Plain | None:
    """Return where a measured row stands on an axis of the front, with its standard error.

    As :func:`lm_eval_trust.leaderboard.ranking.pareto_front` has it; dimensions are evaluated on
    items of their own, so the variances add up.
    """
    shared = shared_columns(columns, rows)
    scores = [row.scores[column.key] for column in shared if column.key in row.scores]
    if row.reported or not scores or len(scores) < len(shared):
        return None
    values = [
        s.value if c.higher_is_better else 1 - s.value for c, s in zip(shared, scores, strict=True)
    ]
    errors = [score.stderr for score in scores if score.stderr is not None]
    known = len(errors) == len(scores)
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(errors) if known else None
    return {"value": statistics.fmean(values), "stderr": stderr}


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
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return value.as_posix() if isinstance(value, Path) else str(value)

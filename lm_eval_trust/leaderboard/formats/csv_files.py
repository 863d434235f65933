"""Boards as CSV files with all digits: scores, pairs, categories, trade-offs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval_trust.leaderboard.board import Board

Line = Mapping[str, Any]


def to_csv(boards: Sequence[Board]) -> dict[str, str]:
    """Return name of a file → its text; the board's number stands in the first column."""
    return {
        name: _text(
            header,
            [{"board": i, **line} for i, board in enumerate(boards, 1) for line in lines(board)],
        )
        for name, (header, lines) in _WRITERS.items()
    }


def _scores(board: Board) -> Iterator[Line]:
    for row in board.rows:
        line: dict[str, Any] = {"model": row.name, "reported": row.reported}
        for column in board.columns:
            score = row.scores.get(column.key)
            line[column.key] = score.value if score else None
            line[f"{column.key} stderr"] = score.stderr if score else None
            line[f"{column.key} seeds"] = score.seeds if score else None
            line[f"{column.key} sd"] = score.spread if score else None
            line[f"{column.key} items"] = score.items if score else None
        line["win rate"] = board.win_rates.get(row.name)
        line["pareto"] = None if row.reported else row.name in board.front
        line["files"] = ";".join(row.provenance.get("files", ()))
        yield line


def _pairs(board: Board) -> Iterator[Line]:
    for pair in board.pairs:
        found = pair.comparison
        yield {
            "first": pair.first,
            "second": pair.second,
            "column": pair.column,
            "difference": found.difference.mean,
            "low": found.difference.low,
            "high": found.difference.high,
            "p": found.p,
            "adjusted p": pair.adjusted_p,
            "test": found.test,
            "items": found.items,
            "groups": found.groups,
        }


def _categories(board: Board) -> Iterator[Line]:
    for column, categories in board.categories.items():
        for category in categories:
            for name, score in category.scores.items():
                yield {
                    "column": column,
                    "kind": category.kind,
                    "category": category.name,
                    "model": name,
                    "value": score.value,
                    "stderr": score.stderr,
                    "items": score.items,
                }


def _tradeoffs(board: Board) -> Iterator[Line]:
    for name, changes in board.tradeoffs.changes.items():
        for dimension, change in changes.items():
            yield {
                "reference": board.reference,
                "model": name,
                "dimension": dimension,
                "change": change.mean,
                "low": change.low,
                "high": change.high,
            }


def _correlations(board: Board) -> Iterator[Line]:
    for found in board.tradeoffs.correlations:
        yield {
            "first": found.first,
            "second": found.second,
            "pearson": found.value,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "rows": found.rows,
        }


#: Name of a file → columns that it has even without a line, and what yields its lines.
_WRITERS: Mapping[str, tuple[str, Callable[[Board], Iterable[Line]]]] = {
    "leaderboard.csv": ("model reported", _scores),
    "pairs.csv": ("first second column difference low high p", _pairs),
    "categories.csv": ("column kind category model value stderr items", _categories),
    "tradeoffs.csv": ("reference model dimension change low high", _tradeoffs),
    "correlations.csv": ("first second pearson low high p rows", _correlations),
}


def _text(header: str, lines: Sequence[Line]) -> str:
    names = dict.fromkeys(["board", *header.split(), *(name for line in lines for name in line)])
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()

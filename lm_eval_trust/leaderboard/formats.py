"""A leaderboard's files: tables for readers, and JSON and CSV with all digits.

CSV is written by the standard library: pandas would print whole numbers with a gap as floats.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.storage import atomic_path, claim_folder
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.typeset import to_latex, to_markdown

Line = Mapping[str, Any]
#: Name of the page that stands beside the tables.
PAGE = "leaderboard.html"


def to_json(boards: Sequence[Board]) -> str:
    """Return boards as JSON text, without their runs; the provenance names the files."""
    found = {"boards": [_plain_board(board) for board in boards]}
    return json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n"


def _plain_board(board: Board) -> dict[str, Any]:
    rows = tuple(replace(row, runs=()) for row in board.rows)
    found = asdict(replace(board, rows=rows))
    for row in found["rows"]:
        del row["runs"]
    for column, kept in zip(found["columns"], board.columns, strict=True):
        column["key"] = kept.key
    return found


def to_csv(boards: Sequence[Board]) -> dict[str, str]:
    """Return name of a file → its text; the first column is the board's number."""
    return {
        name: _csv_text(
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
            line[f"{column.key} answered"] = score.answered if score else None
            if score and score.interval:
                line[f"{column.key} low"] = score.interval.low
                line[f"{column.key} high"] = score.interval.high
            if score and score.corrected:
                line |= _ends(f"{column.key} corrected", score.corrected)
        line["win rate"] = board.win_rates.get(row.name)
        line["pareto"] = None if row.reported else row.name in board.front
        line["files"] = ";".join(row.provenance.get("files", ()))
        yield line


def _ends(name: str, found: Interval) -> Line:
    return {name: found.mean, f"{name} low": found.low, f"{name} high": found.high}


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
            "adjusted low": pair.adjusted.low,
            "adjusted high": pair.adjusted.high,
            "family": pair.family,
            "counted": pair.counted,
            "test": found.test,
            "items": found.items,
            "groups": found.groups,
            **(_ends("corrected", pair.corrected) if pair.corrected else {}),
        }


def _effects(board: Board) -> Iterator[Line]:
    for pair in board.pairs:
        for effects in pair.effects:
            place = {"first": pair.first, "second": pair.second, "column": pair.column}
            yield place | effects.row()


def _beside(board: Board) -> Iterator[Line]:
    for found in board.beside:
        yield {
            "model": found.row,
            "column": found.column,
            "control": found.control,
            "arms": len(found.arms),
            "beaten": found.beaten,
            "gain": found.gain.mean,
            "low": found.gain.low,
            "high": found.gain.high,
            "p": found.p,
            "is more": found.is_more,
        }


def _standings(board: Board) -> Iterator[Line]:
    for column, standings in board.standings.items():
        for name, found in standings.items():
            yield {
                "column": column,
                "model": name,
                "rank low": found.rank_low,
                "rank high": found.rank_high,
                "may be best": found.may_be_best,
                "shrunk": found.shrunk,
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
                    "low": score.interval.low if score.interval else None,
                    "high": score.interval.high if score.interval else None,
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


#: Name of a file → columns that it has even when empty, and what yields its lines.
_WRITERS: Mapping[str, tuple[str, Callable[[Board], Iterable[Line]]]] = {
    "leaderboard.csv": ("model reported", _scores),
    "pairs.csv": ("first second column difference low high p", _pairs),
    "effects.csv": ("first second column category items wrong right unmoved", _effects),
    "controls.csv": ("model column control arms beaten gain low high p", _beside),
    "ranks.csv": ("column model", _standings),
    "categories.csv": ("column kind category model value stderr low high items", _categories),
    "tradeoffs.csv": ("reference model dimension change low high", _tradeoffs),
    "correlations.csv": ("first second pearson low high p rows", _correlations),
}


def _csv_text(header: str, lines: Sequence[Line]) -> str:
    names = dict.fromkeys(["board", *header.split(), *(name for line in lines for name in line)])
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


#: Name of a format → function from boards to file names and texts.
FORMATS: Mapping[str, Callable[[Sequence[Board]], Mapping[str, str]]] = {
    "md": lambda boards: {"leaderboard.md": to_markdown(boards)},
    "csv": to_csv,
    "tex": lambda boards: {"leaderboard.tex": to_latex(boards)},
    "json": lambda boards: {"leaderboard.json": to_json(boards)},
}


def texts(boards: Sequence[Board], formats: Iterable[str]) -> dict[str, str]:
    """Return name of a file → its text.

    Raises:
        InputError: There is no such format.
    """
    found: dict[str, str] = {}
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        found.update(FORMATS[name](boards))
    return found


def write_tables(folder: Path, boards: Sequence[Board], formats: Iterable[str]) -> list[Path]:
    """Write a leaderboard's files, each atomically.

    Returns:
        The files.

    Raises:
        InputError: There is no such format.
        ExternalError: A file cannot be written.
    """
    written, found = [], texts(boards, formats)
    claim_folder(folder, "leaderboard", (*found, PAGE))
    for name, text in found.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written

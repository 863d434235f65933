"""Boards as Markdown (GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.table import Cell, Table, all_tables

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def to_markdown(boards: Sequence[Board]) -> str:
    """Return all tables of all boards, with notes and provenance."""
    parts = [_board(board, i, len(boards)) for i, board in enumerate(boards, start=1)]
    return "\n".join(["# Leaderboard", "", *parts])


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, within a table too."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _board(board: Board, position: int, count: int) -> str:
    lines = [f"## Board {position} of {count}", ""] if count > 1 else []
    for table in all_tables(board):
        lines.extend([f"### {escape(table.title)}", "", *_table(table), ""])
        lines.extend(line for note in table.notes for line in (escape(note), ""))
    for title, notes in (("Notes", board.notes), ("Kept apart", board.kept_apart)):
        if notes:
            lines.extend([f"### {title}", "", *(f"- {escape(note)}" for note in notes), ""])
    lines.extend(["### Provenance", "", *_provenance(board), ""])
    return "\n".join(lines)


def _table(table: Table) -> Iterator[str]:
    yield _line(escape(title) for title in table.header)
    yield _line("---" if i == 0 else "---:" for i in range(len(table.header)))
    for cells in table.lines:
        yield _line(map(_cell, cells))


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    marked = {"best": f"**{text}**", "second": f"<u>{text}</u>"}.get(cell.rank, text)
    return f"{marked} {escape(cell.detail)}".strip()


def _provenance(board: Board) -> Iterator[str]:
    for row in board.rows:
        if row.reported:
            yield f"- {escape(row.name)}: {escape(_reported(row.provenance))}"
            continue
        told = row.provenance
        arguments = ",".join(f"{k}={v}" for k, v in told["model_args"].items())
        versions = ", ".join(f"{name} {v}" for name, v in told["versions"].items() if v)
        marks = f"; fingerprint {', '.join(told['fingerprints'])}" if told["fingerprints"] else ""
        yield (
            f"- {escape(row.name)}: {escape(str(told['model']))}, {escape(arguments)}; "
            f"{escape(versions)}{escape(marks)}; {escape(', '.join(told['dates']))}"
        )


def _reported(told: Mapping[str, Any]) -> str:
    return f"{told['source']}, Table {told['table']}"

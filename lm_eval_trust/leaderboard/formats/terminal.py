"""Boards for the terminal, in colour where it has any; wide tables in parts that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.table import (
    Cell,
    Table,
    correlation_table,
    difference_table,
    score_table,
    tradeoff_table,
)

_STYLES = {"best": "bold", "second": "underline", "": ""}
_NAME_WIDTH = 36
#: Two spaces of padding and a line beside each column.
_BESIDE = 3


def print_boards(boards: Sequence[Board], console: Console) -> None:
    """Print scores, paired differences, trade-offs and notes; categories are in the files."""
    for position, board in enumerate(boards, start=1):
        if len(boards) > 1:
            console.rule(f"Board {position} of {len(boards)}")
        for table in _tables(board):
            for part in _parts(table, console.width):
                console.print(part)
            for note in table.notes:
                console.print(Text(note, style="dim"))
        for note in (*board.notes, *board.kept_apart):
            console.print(Text(note, style="dim"))


def _tables(board: Board) -> list[Table]:
    found = (
        score_table(board),
        difference_table(board, of_reference_alone=True),
        tradeoff_table(board),
        correlation_table(board),
    )
    return [table for table in found if table is not None]


def _parts(table: Table, width: int) -> Iterator[RichTable]:
    """Yield the table, its columns divided over several where they do not fit side by side."""
    names = max(len(line[0].text) for line in table.lines)
    named = min(names, _NAME_WIDTH) + _BESIDE + 1
    start, used = 1, named
    for i in range(1, len(table.header)):
        needed = _width(table, i) + _BESIDE
        if i > start and used + needed > width:
            yield _part(table, range(start, i))
            start, used = i, named
        used += needed
    yield _part(table, range(start, len(table.header)))


def _width(table: Table, i: int) -> int:
    cells = (text for line in table.lines for text in (line[i].text, line[i].detail))
    return max(len(table.header[i]), *map(len, cells))


def _part(table: Table, chosen: range) -> RichTable:
    part = RichTable(title=Text(table.title, style="table.title"), title_justify="left")
    part.add_column(table.header[0], max_width=_NAME_WIDTH, overflow="fold")
    for i in chosen:
        part.add_column(Text(table.header[i]), justify="right", no_wrap=True)
    for line in table.lines:
        part.add_row(Text(line[0].text), *(_text(line[i]) for i in chosen))
    return part


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES[cell.rank])
    return (
        text.append(f"\n{cell.detail}", style="dim not bold not underline") if cell.detail else text
    )

"""Boards set as tables: Markdown, LaTeX (``booktabs``), and the terminal.

The cells, with their marks and details, come from :mod:`lm_eval_trust.leaderboard.table`; a format
only escapes and joins them. pandas' ``Styler`` and ``to_markdown`` would need the same escapes and
marks as arguments, and would lay the files out otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.table import (
    Cell,
    Table,
    all_tables,
    corrected_table,
    correlation_table,
    difference_table,
    rank_table,
    score_table,
    tradeoff_table,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def to_markdown(boards: Sequence[Board]) -> str:
    """Return all tables of all boards, with notes and provenance."""
    parts = [_markdown_board(board, i, len(boards)) for i, board in enumerate(boards, start=1)]
    return "\n".join(["# Leaderboard", "", *parts])


def escape_markdown(text: str) -> str:
    """Escape text for Markdown, inside a table too."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _markdown_board(board: Board, position: int, count: int) -> str:
    lines = [f"## Board {position} of {count}", ""] if count > 1 else []
    for table in all_tables(board):
        lines.extend([f"### {escape_markdown(table.title)}", "", *_markdown_table(table), ""])
        lines.extend(line for note in table.notes for line in (escape_markdown(note), ""))
    for title, notes in (("Notes", board.notes), ("Kept apart", board.kept_apart)):
        if notes:
            lines.extend(
                [f"### {title}", "", *(f"- {escape_markdown(note)}" for note in notes), ""]
            )
    lines.extend(["### Provenance", "", *_provenance(board), ""])
    return "\n".join(lines)


def _markdown_table(table: Table) -> Iterator[str]:
    yield _markdown_line(escape_markdown(title) for title in table.header)
    yield _markdown_line("---" if i == 0 else "---:" for i in range(len(table.header)))
    for cells in table.lines:
        yield _markdown_line(map(_markdown_cell, cells))


def _markdown_line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    marked = {"best": f"**{text}**", "second": f"<u>{text}</u>"}.get(cell.rank, text)
    return f"{marked} {escape_markdown(cell.detail)}".strip()


def _provenance(board: Board) -> Iterator[str]:
    for row in board.rows:
        told = row.provenance
        if row.reported:
            text = f"{row.name}: {told['source']}, Table {told['table']}"
        else:
            arguments = ",".join(f"{k}={v}" for k, v in told["model_args"].items())
            versions = ", ".join(f"{name} {v}" for name, v in told["versions"].items() if v)
            marks = (
                f"; fingerprint {', '.join(told['fingerprints'])}" if told["fingerprints"] else ""
            )
            dates = ", ".join(told["dates"])
            text = f"{row.name}: {told['model']}, {arguments}; {versions}{marks}; {dates}"
        yield f"- {escape_markdown(text)}"


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # In the default font encoding only the typewriter font has a straight quotation mark.
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "α": r"$\alpha$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    # A star in the first cell of a line would be read as an option of the \\ before it.
    "*": r"{*}",
    "[": r"{[}",
    "]": r"{]}",
}
_LATEX = str.maketrans(_ESCAPES)
#: Shrinks a table to the text's width if it is wider.
_SHRUNK = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}"


def to_latex(boards: Sequence[Board]) -> str:
    """Return scores, paired differences, ranks and trade-offs of all boards, as a file to input."""
    tables = (
        (table, board)
        for board in boards
        for table in (
            score_table(board),
            difference_table(board),
            corrected_table(board),
            rank_table(board),
            tradeoff_table(board),
        )
        if table is not None
    )
    parts = ["\n".join(_latex_table(table, board)) for table, board in tables]
    return "\n\n".join(["% Needs \\usepackage{booktabs,graphicx}", *parts]) + "\n"


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    return " ".join(text.split()).translate(_LATEX)


def _latex_table(table: Table, board: Board) -> Iterator[str]:
    yield r"\begin{table*}"
    yield r"\centering\small"
    yield rf"\caption{{{escape_latex(table.title)}}}"
    yield rf"{_SHRUNK}{{\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}"
    yield r"\toprule"
    yield _latex_line(escape_latex(title) for title in table.header)
    yield r"\midrule"
    reported = {row.name for row in board.rows if row.reported}
    ruled = False
    for cells in table.lines:
        if not ruled and cells[0].text in reported:
            ruled = True
            yield r"\midrule"
        yield _latex_line(map(_latex_cell, cells))
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    notes = (*table.notes, *board.notes) if table.title == "Scores" else table.notes
    for note in notes:
        yield rf"\par\footnotesize {escape_latex(note)}"
    yield r"\end{table*}"


def _latex_line(texts: Iterable[str]) -> str:
    return rf"{' & '.join(texts)} \\"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    command = {"best": r"\textbf", "second": r"\underline"}.get(cell.rank)
    marked = f"{command}{{{text}}}" if command else text
    return rf"{marked} {{\scriptsize {escape_latex(cell.detail)}}}" if cell.detail else marked


_STYLES = {"best": "bold", "second": "underline", "": ""}
_NAME_WIDTH = 36
#: Two spaces of padding and a rule beside each column.
_BESIDE = 3


class Terminal(Console):
    """A console whose closed pipe is an error like any other; rich's own would exit with 1.

    ``NO_COLOR`` leaves no escapes at all: rich itself would keep bold and underlined ones.
    """

    def __init__(self, **settings: Any) -> None:
        if os.environ.get("NO_COLOR"):
            settings["color_system"] = None
        super().__init__(**settings)

    def on_broken_pipe(self) -> None:
        """Raise what the pipe raised."""
        raise BrokenPipeError


def print_boards(boards: Sequence[Board], console: Console) -> None:
    """Print scores, paired differences, trade-offs and notes (categories are in the files only)."""
    for position, board in enumerate(boards, start=1):
        if len(boards) > 1:
            console.rule(f"Board {position} of {len(boards)}")
        for table in _terminal_tables(board):
            for part in _parts(table, console.width):
                console.print(part)
            for note in table.notes:
                console.print(Text(note, style="dim"))
        for note in (*board.notes, *board.kept_apart):
            console.print(Text(note, style="dim"))


def _terminal_tables(board: Board) -> list[Table]:
    found = (
        score_table(board),
        difference_table(board, of_reference_alone=True),
        corrected_table(board),
        rank_table(board),
        tradeoff_table(board),
        correlation_table(board),
    )
    return [table for table in found if table is not None]


def _parts(table: Table, width: int) -> Iterator[RichTable]:
    """Yield the table, split by columns into several if it is wider than the terminal."""
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
        part.add_row(Text(line[0].text), *(_rich_cell(line[i]) for i in chosen))
    return part


def _rich_cell(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES[cell.rank])
    return (
        text.append(f"\n{cell.detail}", style="dim not bold not underline") if cell.detail else text
    )

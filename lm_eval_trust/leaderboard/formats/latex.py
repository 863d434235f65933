r"""Boards as LaTeX tables for ``\usepackage{booktabs,graphicx}``, to be ``\input``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.table import (
    Cell,
    Table,
    difference_table,
    score_table,
    tradeoff_table,
)

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
    # The default font encoding has no straight mark but in its typewriter font.
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "α": r"$\alpha$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    # A star in the first cell of a line would be read as the option of the \\ before it.
    "*": r"{*}",
    "[": r"{[}",
    "]": r"{]}",
}
_TABLE = str.maketrans(_ESCAPES)
#: Sets a wide table in the text's width, and leaves a narrow one as it is.
_SHRUNK = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}"


def to_latex(boards: Sequence[Board]) -> str:
    """Return scores, paired differences and trade-offs of all boards."""
    tables = (
        (table, board)
        for board in boards
        for table in (score_table(board), difference_table(board), tradeoff_table(board))
        if table is not None
    )
    parts = ["\n".join(_table(table, board)) for table, board in tables]
    return "\n\n".join(["% Needs \\usepackage{booktabs,graphicx}", *parts]) + "\n"


def escape(text: str) -> str:
    """Return text that LaTeX sets as it is."""
    return " ".join(text.split()).translate(_TABLE)


def _table(table: Table, board: Board) -> Iterator[str]:
    yield r"\begin{table*}"
    yield r"\centering\small"
    yield rf"\caption{{{escape(table.title)}}}"
    yield rf"{_SHRUNK}{{\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}"
    yield r"\toprule"
    yield _line(escape(title) for title in table.header)
    yield r"\midrule"
    reported = {row.name for row in board.rows if row.reported}
    ruled = False
    for cells in table.lines:
        if not ruled and cells[0].text in reported:
            ruled = True
            yield r"\midrule"
        yield _line(map(_cell, cells))
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    notes = (*table.notes, *board.notes) if table.title == "Scores" else table.notes
    for note in notes:
        yield rf"\par\footnotesize {escape(note)}"
    yield r"\end{table*}"


def _line(texts: Iterable[str]) -> str:
    return rf"{' & '.join(texts)} \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    command = {"best": r"\textbf", "second": r"\underline"}.get(cell.rank)
    marked = f"{command}{{{text}}}" if command else text
    return rf"{marked} {{\scriptsize {escape(cell.detail)}}}" if cell.detail else marked

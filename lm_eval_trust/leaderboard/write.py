"""A leaderboard's files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.formats.as_json import to_json
from lm_eval_trust.leaderboard.formats.csv_files import to_csv
from lm_eval_trust.leaderboard.formats.latex import to_latex
from lm_eval_trust.leaderboard.formats.markdown import to_markdown

#: Name of a format → from boards to the text of each file.
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
    """Write a leaderboard's files; each is whole or as it was.

    Returns:
        The files.

    Raises:
        InputError: There is no such format.
        ExternalError: A file cannot be written.
    """
    written = []
    for name, text in texts(boards, formats).items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written

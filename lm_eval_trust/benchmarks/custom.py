"""A user's own statements, from a CSV or JSON-lines file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import Dimension
from lm_eval_trust.benchmarks.files import read_text, sha256_of
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError, MissingDataError, unknown_name
from lm_eval_trust.core.hashing import group_id

REQUIRED = ("statement", "label")


def read_statements_file(path: str | Path, dimension: str | Dimension) -> Statements:
    """Return the statements of a file.

    The file has the columns ``statement`` and ``label`` (0 or 1 as the dimension means it), and
    optionally ``group`` (what belongs together in a split; the statement itself by default) and
    ``category``.

    Args:
        path: A ``.csv`` with a header, or a ``.jsonl`` with an object a line; UTF-8.
        dimension: What the labels mean: a dimension or its name.

    Raises:
        MissingDataError: The file does not exist.
        InputError: Another ending, not UTF-8, malformed, a column missing, a label other than 0
            or 1, an empty statement, or no rows.
    """
    path = Path(path)
    found = find_dimension(dimension) if isinstance(dimension, str) else dimension
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}; expected a CSV or JSONL of statements.")
    if path.suffix.lower() not in _READERS:
        raise unknown_name("kind of statements file", path.suffix, _READERS)
    rows = _READERS[path.suffix.lower()](path)
    items = tuple(_statement(row, f"{path}, row {number}") for number, row in enumerate(rows, 1))
    settings = {"files": {path.name: sha256_of(path.read_bytes())}}
    return Statements(found, str(path), items, settings)


def _read_csv(path: Path) -> list[Mapping[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is not a well-formed CSV: {error}.") from error


def _read_jsonl(path: Path) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not an object with statement and label.")
        rows.append(row)
    return rows


_READERS: dict[str, Callable[[Path], list[Mapping[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _statement(row: Mapping[str, Any], where: str) -> Statement:
    missing = [name for name in REQUIRED if row.get(name) is None]
    if missing:
        have = ", ".join(str(name) for name in row)
        raise InputError(f"{where} lacks {' and '.join(missing)}; its columns are {have}.")
    text = str(row["statement"])
    if not text.strip():
        raise InputError(f"{where} has an empty statement; delete the row or fill it in.")
    label = str(row["label"]).strip()
    if label not in {"0", "1"}:
        raise InputError(f"{where} has the label {row['label']!r}; expected 0 or 1.")
    group, category = row.get("group"), row.get("category")
    return Statement(
        text=text,
        label=int(label),
        group=group_id(str(group) if group not in (None, "") else text),
        category=str(category) if category not in (None, "") else None,
    )

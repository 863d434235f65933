"""Read the formats that the benchmarks come in; all text is UTF-8, with or without a mark."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.files import locate
from lm_eval_trust.core.errors import InputError


def read_text(path: Path) -> str:
    """Return a file's text without a byte-order mark.

    Raises:
        InputError: The file is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from error


def read_csv(path: str) -> list[dict[str, str]]:
    """Return the rows of a catalogue's CSV, every cell as text."""
    return list(csv.DictReader(io.StringIO(read_text(locate(path)), newline="")))


def read_tsv(path: str) -> list[dict[str, str]]:
    """Return the rows of an unquoted TSV such as GLUE's, every cell as text."""
    lines = read_text(locate(path)).split("\n")
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_json(path: str) -> Any:
    """Return the value of a catalogue's JSON file."""
    return json.loads(read_text(locate(path)))


def read_jsonl(path: str) -> list[dict[str, Any]]:
    """Return the values of a catalogue's JSON-lines file."""
    return [json.loads(line) for line in read_text(locate(path)).split("\n") if line.strip()]


def read_lines(path: str) -> list[str]:
    """Return a text file's lines, the last one with or without a line break."""
    return read_text(locate(path)).rstrip("\n").split("\n")

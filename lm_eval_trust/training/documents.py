"""Documents of a local corpus: plain text or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lm_eval_trust.core.errors import InputError


def read_documents(paths: Sequence[Path], *, field: str = "text") -> Iterator[str]:
    """Yield the documents of files in the order given.

    ``.jsonl`` holds one document a line, in ``field``. Any other file is plain text in UTF-8, whose
    documents are separated by blank lines.

    Raises:
        InputError: A file is missing, or a line is not an object with that field.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"No corpus file {path}; expected plain text (UTF-8) or .jsonl.")
        yield from _json_lines(path, field) if path.suffix == ".jsonl" else _paragraphs(path)


def _json_lines(path: Path, field: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)[field]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: expected a JSON object with the field {field!r}."
                ) from error
            if not isinstance(document, str):
                raise InputError(f"{path}, line {number}: {field!r} is no text.")
            yield document


def _paragraphs(path: Path) -> Iterator[str]:
    collected: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                collected.append(line.rstrip("\n"))
            elif collected:
                yield "\n".join(collected)
                collected = []
    if collected:
        yield "\n".join(collected)

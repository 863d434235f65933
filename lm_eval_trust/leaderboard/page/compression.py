"""Texts in compressed chunks, so that a page of a hundred thousand samples opens at once."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

#: Samples of one chunk; the browser decodes a chunk at a time.
CHUNK = 200


class Chunks:
    """Chunks under the hash of their content: rows that share prompts share the chunks."""

    def __init__(self) -> None:
        self._encoded: dict[str, str] = {}

    def add(self, values: Sequence[Any]) -> list[str]:
        """Keep a series; return the ids of its chunks in order.

        Args:
            values: What JSON can hold.
        """
        return [self._add(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK)]

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield each chunk's id and its gzip-compressed JSON in base64."""
        yield from self._encoded.items()

    def _add(self, values: Sequence[Any]) -> str:
        raw = json.dumps(values, ensure_ascii=False, allow_nan=False).encode(
            "utf-8", "surrogatepass"
        )
        name = hashlib.sha256(raw).hexdigest()[:16]
        if name not in self._encoded:
            self._encoded[name] = encode(raw)
        return name


def encode(raw: bytes) -> str:
    """Return bytes as gzip in base64; the same bytes each time."""
    return base64.b64encode(gzip.compress(raw, compresslevel=6, mtime=0)).decode("ascii")

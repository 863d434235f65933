"""Answers of every configuration to every request, on disk as soon as they are there.

A sweep that was killed finds in them what it had computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlitedict import SqliteDict

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.hashing import fingerprint

#: Identity of a request, and of the steering that answered it.
Key = tuple[str, str]


class AnswerStore:
    """A table of JSON-like answers in one SQLite file.

    Args:
        path: The file; it is made where there is none.
        context: What else all answers depend on, such as the model; another context has another
            table.

    Raises:
        ExternalError: The file cannot be opened.
    """

    def __init__(self, path: Path, context: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._table = SqliteDict(
                str(path),
                tablename=f"answers_{fingerprint(context)}",
                autocommit=False,
                encode=json.dumps,
                decode=json.loads,
            )
        except Exception as error:
            raise ExternalError(
                f"Cannot open {path}: {error}. Delete it to have its answers computed again."
            ) from error
        self._known: dict[str, Any] = dict(self._table.items())

    def get(self, key: Key) -> Any:
        """Return an answer; ``None`` where there is none yet."""
        return self._known.get("/".join(key))

    def put(self, answers: Iterable[tuple[Key, Any]]) -> None:
        """Keep answers; they are on disk when this returns."""
        for key, answer in answers:
            self._known["/".join(key)] = self._table["/".join(key)] = answer
        self._table.commit()

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

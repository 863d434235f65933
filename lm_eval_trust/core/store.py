"""Answers and verdicts that took time or money to get, on disk as soon as they are there.

Our own table on SQLite rather than diskcache: the values are JSON with a checksum, nothing is
evicted or unpickled, and the file is a single one that a user can move.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.hashing import content_id

logger = logging.getLogger(__name__)

#: Seconds to wait for another process's write.
_PATIENCE = 60.0
#: SQLite's limit on the parameters of one statement is 999 in old releases.
_KEYS_AT_ONCE = 500
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    context TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (context, key)
) WITHOUT ROWID
"""


class KeyedStore(AbstractContextManager["KeyedStore"]):
    """JSON values by key, in one SQLite file that several processes may use at once.

    A value whose checksum does not match counts as absent, with a warning, so it is
    computed again.

    Args:
        path: The file; it is created if it does not exist.
        context: What all values depend on besides their keys. Each context has its own values.
        content: What the values are called in messages, e.g. ``verdicts``.

    Raises:
        ExternalError: The file cannot be opened.
    """

    def __init__(self, path: Path, context: str, *, content: str = "answers") -> None:
        self.path, self._context, self._content = path, context, content
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._file = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise self._failed("open", error) from error

    def get(self, key: str) -> Any:
        """Return a value, or ``None`` if there is none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the values that exist, by key."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            marks = ",".join("?" * len(part))
            # Only question marks are put into the text.
            query = (
                "SELECT key, value, checksum FROM entries "
                f"WHERE context = ? AND key IN ({marks})"  # nosec B608
            )
            try:
                rows = self._file.execute(query, (self._context, *part)).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error
            found.update(self._intact(rows))
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep a value; it survives the process once this returns."""
        self.put_many([(key, value)])

    def put_many(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep values in one transaction."""
        rows = []
        for key, value in items:
            text = json.dumps(value)
            rows.append((self._context, key, text, content_id(self._context, key, text)))
        try:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed("write", error) from error

    def close(self) -> None:
        """Close the file."""
        with self._alone():
            self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Open and close one process at a time.

        SQLite's timeout covers neither the switch of a new file to write-ahead logging nor the
        clean-up by the last process that closes it: both fail at once with "database is locked".
        """
        with FileLock(f"{self.path}.lock", timeout=_PATIENCE):
            yield

    def _intact(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, Any]]:
        for key, text, checksum in rows:
            if content_id(self._context, key, text) == checksum:
                yield key, json.loads(text)
            else:
                logger.warning(
                    "An entry among the %s in %s was changed since it was written; it is computed "
                    "again.",
                    self._content,
                    self.path,
                )

    def _failed(self, action: str, error: Exception) -> ExternalError:
        return ExternalError(
            f"Cannot {action} the {self._content} in {self.path}: {error}. Free space there, or "
            f"move the file away to have all {self._content} computed again."
        )

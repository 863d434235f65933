"""Every verdict that was paid for, on disk as soon as it is there: one SQLite file for all judges.

A run that broke off finds in it what it had, and a second run asks nothing again. Texts are kept
as hashes; no key and no answer of a model stands in it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from tqdm import tqdm

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.prompts import Prompt

#: Seconds that a process waits for another one's write.
_PATIENCE = 60.0
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    judge TEXT NOT NULL, prompt TEXT NOT NULL, verdict TEXT NOT NULL, PRIMARY KEY (judge, prompt)
) WITHOUT ROWID
"""


def verdicts_file() -> Path:
    """Return the file of the user's verdicts."""
    return cache_dir() / "judges" / "verdicts.sqlite"


class VerdictStore:
    """The verdicts of one judge.

    Several processes on one machine may read and write the file at once.

    Args:
        judge: What all verdicts depend on beside the prompt.
        path: The file; it is made where there is none.

    Raises:
        ExternalError: The file cannot be opened.
    """

    def __init__(self, judge: str, path: Path | None = None) -> None:
        self.path = path or verdicts_file()
        self._judge = judge
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise self._failed("open", error) from error

    def get(self, prompts: Sequence[Prompt]) -> dict[Prompt, Verdict]:
        """Return the verdicts that are there."""
        query = "SELECT verdict FROM verdicts WHERE judge = ? AND prompt = ?"
        found = {}
        try:
            for prompt in prompts:
                row = self._file.execute(query, (self._judge, _key(prompt))).fetchone()
                if row is not None:
                    found[prompt] = _read(row[0])
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise self._failed("read", error) from error
        return found

    def put(self, prompt: Prompt, verdict: Verdict) -> None:
        """Keep a verdict; it outlives the process when this returns."""
        content = {"accepted": verdict.accepted, "score": verdict.score, **_details(verdict)}
        row = (self._judge, _key(prompt), json.dumps(content))
        try:
            self._file.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._failed("write", error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> VerdictStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _failed(self, doing: str, error: Exception) -> ExternalError:
        return ExternalError(
            f"Cannot {doing} the verdicts in {self.path}: {error}. Free space there, or move the "
            f"file away to have all verdicts asked for again."
        )


def _key(prompt: Prompt) -> str:
    return content_id(prompt.system, prompt.text)


def _details(verdict: Verdict) -> dict[str, dict[str, float]]:
    return {"details": dict(verdict.details)} if verdict.details else {}


def _read(content: str) -> Verdict:
    fields = json.loads(content)
    return Verdict(fields["accepted"], fields["score"], fields.get("details", {}))


class Engine(Protocol):
    """A model that judges, wherever it runs."""

    @property
    def identity(self) -> str:
        """What its verdicts depend on beside the prompt."""
        ...

    @property
    def title(self) -> str:
        """A few words for the progress bar."""
        ...

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield each prompt with its verdict as soon as it is there, in any order.

        Raises:
            ExternalError: The judge failed; what it had decided has been yielded before.
        """
        ...


def verdicts_on(prompts: Sequence[Prompt], engine: Engine) -> list[Verdict]:
    """Return the verdicts in order; equal prompts are asked for once.

    Raises:
        ExternalError: The judge failed; the message says what is kept.
    """
    with VerdictStore(engine.identity) as store:
        found = store.get(prompts)
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        try:
            for prompt, verdict in _with_progress(engine, missing):
                store.put(prompt, verdict)
                found[prompt] = verdict
        except ExternalError as error:
            total = len(set(prompts))
            raise ExternalError(
                f"{error} {len(found)} of {total} verdicts are kept in {store.path}; the next run "
                f"asks for the others alone."
            ) from None
    return [found[prompt] for prompt in prompts]


def _with_progress(engine: Engine, prompts: list[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
    if not prompts:
        return
    hidden = not sys.stderr.isatty()
    with tqdm(total=len(prompts), desc=engine.title, unit="verdict", disable=hidden) as bar:
        for decided in engine.judge(prompts):
            yield decided
            bar.update()

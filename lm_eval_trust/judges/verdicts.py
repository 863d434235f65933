"""Verdicts that were paid for, kept as soon as they arrive: one SQLite file for all judges.

An interrupted run finds in it what it had, and a repeated one asks nothing twice but what could not
be read. Texts are kept as hashes; the file contains no key and no model's answer.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Protocol

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.prompts import Prompt, is_number

logger = logging.getLogger(__name__)


def verdicts_file() -> Path:
    """Return the file of the user's verdicts."""
    return cache_dir() / "judges" / "verdicts.sqlite"


class VerdictStore(AbstractContextManager["VerdictStore"]):
    """The verdicts of one judge.

    Several processes on one machine may read and write the file at once. Verdicts that earlier
    versions kept in the same file are found too.

    Args:
        judge: What all verdicts depend on besides the prompt.
        path: The file; it is created if it does not exist.

    Raises:
        ExternalError: The file cannot be opened.
    """

    def __init__(self, judge: str, path: Path | None = None) -> None:
        self.path = path or verdicts_file()
        self._judge = judge
        self._store = KeyedStore(self.path, judge, content="verdicts")

    def get(self, prompts: Sequence[Prompt]) -> dict[Prompt, Verdict]:
        """Return the verdicts that are kept."""
        keys = {prompt: _key(prompt) for prompt in prompts}
        kept = self._store.get_many(list(keys.values()))
        found = {key: _verdict(fields) for key, fields in kept.items() if _is_verdict(fields)}
        found |= self._earlier([key for key in keys.values() if key not in found])
        return {prompt: found[key] for prompt, key in keys.items() if key in found}

    def put(self, prompt: Prompt, verdict: Verdict) -> None:
        """Keep a verdict; it survives the process once this returns."""
        fields: dict[str, Any] = {"accepted": verdict.accepted, "score": verdict.score}
        if verdict.details:
            fields["details"] = dict(verdict.details)
        self._store.put(_key(prompt), fields)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _earlier(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """Return verdicts from the table ``verdicts``, which earlier versions wrote."""
        table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'verdicts'"
        query = "SELECT verdict FROM verdicts WHERE judge = ? AND prompt = ?"
        found = {}
        try:
            with closing(sqlite3.connect(self.path)) as file:
                if file.execute(table).fetchone() is None:
                    return {}
                for key in keys:
                    if row := file.execute(query, (self._judge, key)).fetchone():
                        fields = json.loads(row[0])
                        if _is_verdict(fields):
                            found[key] = _verdict(fields)
        except (sqlite3.Error, ValueError) as error:
            raise ExternalError(
                f"Cannot read the earlier verdicts in {self.path}: {error}. Move the file away to "
                f"have all verdicts asked for again."
            ) from error
        return found


class Engine(Protocol):
    """A model that judges, on this machine or behind a server."""

    @property
    def identity(self) -> str:
        """What its verdicts depend on besides the prompt."""
        ...

    @property
    def title(self) -> str:
        """A few words for the progress bar."""
        ...

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield each prompt with its verdict as soon as it is known, in any order.

        Raises:
            ExternalError: The judge failed; the verdicts it reached have been yielded before.
        """
        ...


def judge_with_cache(prompts: Sequence[Prompt], engine: Engine) -> list[Verdict]:
    """Return a verdict for each prompt, in order; only prompts without a kept one are asked.

    Equal prompts are asked once.

    Raises:
        ExternalError: The judge failed, or none of its replies can be read; the message says how
            many verdicts are kept.
    """
    with VerdictStore(engine.identity) as store:
        found = {p: v for p, v in store.get(prompts).items() if v.accepted is not None}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        try:
            for prompt, verdict in _with_progress(engine, missing):
                if verdict.accepted is not None:
                    store.put(prompt, verdict)
                found[prompt] = verdict
        except ExternalError as error:
            kept = sum(verdict.accepted is not None for verdict in found.values())
            raise ExternalError(
                f"{error} {kept} of {len(set(prompts))} verdicts are kept in {store.path}; the "
                f"next run asks only for the others."
            ) from None
    _check_readable(engine, found)
    return [found[prompt] for prompt in prompts]


#: So many replies, none of which can be read, tell that the judge is of no use.
_TELLING = 2


def _check_readable(engine: Engine, found: Mapping[Prompt, Verdict]) -> None:
    """Log how many replies could not be read, with one of them; raise if none could be."""
    unread = [verdict for verdict in found.values() if verdict.accepted is None]
    if not unread:
        return
    shown = f"One of them: {unread[0].reply!r}."
    if len(unread) < max(len(found), _TELLING):
        what = "%d of %d replies of %s cannot be read and give no verdict. %s"
        logger.warning(what, len(unread), len(found), engine.title, shown)
        return
    raise ExternalError(
        f"None of the {len(unread)} replies of {engine.title} can be read as a verdict. {shown} "
        f"Choose a model that answers the question, or give it more room by judge_reply_tokens."
    )


def _with_progress(engine: Engine, prompts: list[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
    if not prompts:
        return
    with progress_bar(total=len(prompts), title=engine.title, unit="verdict") as bar:
        for decided in engine.judge(prompts):
            yield decided
            bar.update()


def _key(prompt: Prompt) -> str:
    return content_id(prompt.system, prompt.text)


def _verdict(fields: dict[str, Any]) -> Verdict:
    return Verdict(fields["accepted"], fields["score"], fields.get("details", {}))


def _is_verdict(fields: Any) -> bool:
    """Return whether kept fields are a verdict; earlier versions kept scores such as ``nan``."""
    if not isinstance(fields, dict) or not isinstance(fields.get("accepted"), bool | None):
        return False
    score = fields.get("score")
    return score is None or (is_number(score) and math.isfinite(score))

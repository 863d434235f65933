"""One verdict for every prompt: from the cache, else from the judge, each asked for once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from tqdm import tqdm

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.verdicts import VerdictStore


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

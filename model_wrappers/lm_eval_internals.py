"""What we use of lm-eval and sqlitedict apart from their public interfaces (lm_eval 0.4.13).

``tests/model_wrappers/test_lm_eval_internals.py`` fails when a release moves any of it, or any of
the methods of ``HFLM`` that :class:`lm_eval_trust.model_wrappers.steerable.SteerableLM` overrides.
"""

from __future__ import annotations

import inspect
from typing import Any

from lm_eval.models.huggingface import HFLM


def hflm_arguments() -> frozenset[str]:
    """Return the names of the arguments that ``HFLM`` declares."""
    parameters = inspect.signature(HFLM.__init__).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is not p.VAR_KEYWORD) - {"self"}


def keep_responses_apart(cache_hook: Any, fingerprint: str) -> None:
    """Make ``--use_cache`` safe: answers of one model and steering never serve another.

    The harness keys its response cache by the request alone. Within the one SQLite file that it
    opens, each fingerprint gets its own table, so a sweep over α may share a file.

    Args:
        cache_hook: ``lm_eval.api.model.CacheHook``; its ``dbdict`` is the very ``SqliteDict`` that
            the harness's ``CachingLM`` reads and writes, or ``None`` without a cache.
        fingerprint: Identity of model, arguments and steering.
    """
    responses = cache_hook.dbdict
    if responses is None:
        return
    responses.tablename = f"lm_eval_trust_{fingerprint}"
    responses.conn.execute(
        f'CREATE TABLE IF NOT EXISTS "{responses.tablename}" (key TEXT PRIMARY KEY, value BLOB)'
    )
    responses.conn.commit()


def harness_options() -> list[str]:
    """Return the options of ``lm_eval run``; parsers of the harness are not public."""
    from lm_eval._cli.harness import HarnessCLI

    return list(HarnessCLI()._subparsers.choices["run"]._option_string_actions)

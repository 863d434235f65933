"""Make the harness's ``--use_cache`` safe: answers of one model and steering never serve another.

The harness keys its response cache by the request alone. Within the one SQLite file that it
opens, each fingerprint gets a table of its own, so that a sweep over α may share a file.
"""

from __future__ import annotations

from typing import Any


def keep_responses_apart(cache_hook: Any, fingerprint: str) -> None:
    """Turn the open cache behind a hook to the table of ``fingerprint``.

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

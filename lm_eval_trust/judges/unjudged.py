"""A model's answers survive a judge that fails: they are kept for ``lm-eval-trust judge``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lm_eval_trust.core.errors import ExternalError, TrustError, reason_of
from lm_eval_trust.core.saved_runs import write_run
from lm_eval_trust.core.storage import cache_dir


def save_unjudged(
    task: str,
    config: Mapping[str, Any],
    answers: Sequence[str],
    docs: Sequence[Mapping[str, Any]],
    error: BaseException,
) -> TrustError:
    """Write answers in the layout of the harness's results, and return an error that says where.

    Args:
        task: Name of the task.
        config: Its configuration.
        answers: One for each row.
        docs: The rows.
        error: What the judge failed with.

    Returns:
        An error that tells how to judge the answers later, of the judge's error's class if that
        is one of ours.
    """
    told = error if isinstance(error, TrustError) else _unexpected(error)
    date = datetime.now().isoformat().replace(":", "-")
    folder = cache_dir() / "judges" / "unjudged" / f"{task}-{date}-{os.getpid()}"
    results = {"results": {task: {}}, "configs": {task: config}, "config": {}, "group_subtasks": {}}
    samples = [
        {"doc_id": i, "doc": doc, "resps": [[answer]], "metrics": []}
        for i, (answer, doc) in enumerate(zip(answers, docs, strict=True))
    ]
    try:
        write_run(folder, date, results, {task: samples})
    except ExternalError as failure:
        return type(told)(f"{told} The model's answers could not be kept either: {failure}")
    return type(told)(
        f"{told} The model's {len(answers)} answers are kept; once the judge works again, "
        f"`lm-eval-trust judge {folder}` judges them."
    )


def _unexpected(error: BaseException) -> ExternalError:
    if isinstance(error, KeyboardInterrupt):
        return ExternalError("The judging was interrupted.")
    return ExternalError(f"The judge failed: {type(error).__name__}: {reason_of(error)}.")

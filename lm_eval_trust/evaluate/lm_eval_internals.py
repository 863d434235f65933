"""What is used or changed inside lm-eval and torch by evaluations and sweeps.

Tested with lm_eval 0.4.13 and torch 2.13.0; ``tests/evaluate/test_lm_eval_internals.py`` fails when
a release moves one of the names.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def quick_calls() -> Iterator[None]:
    """Spare repeated calls what does not change between them.

    The harness describes the machine for every results file, which takes torch seconds; it starts
    processes to bootstrap in; and it compiles a task's templates anew for each item.
    """
    from lm_eval import utils
    from torch.utils import collect_env

    asked, before = collect_env.get_pretty_env_info, os.environ.get("DISABLE_MULTIPROC")
    collect_env.get_pretty_env_info = _environment
    os.environ["DISABLE_MULTIPROC"] = "1"
    compiled = utils.env.from_string
    utils.env.from_string = functools.lru_cache(maxsize=256)(compiled)
    try:
        yield
    finally:
        utils.env.from_string = compiled
        collect_env.get_pretty_env_info = asked
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextlib.contextmanager
def prompts_after(tasks: Mapping[str, Any], prefixes: Mapping[str, str]) -> Iterator[None]:
    """Place a text before every prompt that tasks make.

    The harness's own system instruction is one for all tasks, and is joined without a blank.

    Args:
        tasks: Name → the harness's task.
        prefixes: Task → text.
    """

    def prefixed(prefix: str, plain: Any) -> Any:
        def context(*arguments: Any, **settings: Any) -> Any:
            found = plain(*arguments, **settings)
            return prefix + found if isinstance(found, str) else [prefix + each for each in found]

        return context

    for name, prefix in prefixes.items():
        tasks[name].fewshot_context = prefixed(prefix, tasks[name].fewshot_context)
    try:
        yield
    finally:
        for name in prefixes:
            del tasks[name].fewshot_context


def rows_with_stop_sequence(criterion: Any) -> list[bool] | None:
    """Return which rows hold a stop sequence of the harness; ``None`` for another criterion."""
    from lm_eval.models.utils_hf import MultiTokenEOSCriteria

    if not isinstance(criterion, MultiTokenEOSCriteria):
        return None
    rows: list[bool] = criterion.done_tracker
    return rows


@functools.cache
def _environment() -> str:
    from torch.utils import collect_env

    return str(collect_env.pretty_str(collect_env.get_env_info()))  # type: ignore[no-untyped-call]

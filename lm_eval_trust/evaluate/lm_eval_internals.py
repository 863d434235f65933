"""What is used or changed inside lm-eval and torch by evaluations and sweeps.

Tested with lm_eval 0.4.13 and torch 2.13.0; ``tests/evaluate/test_lm_eval_internals.py`` fails when
a release moves one of the names.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def quick_calls() -> Iterator[None]:
    """Spare repeated calls what does not change between them.

    The harness describes the machine for every results file, which takes torch seconds; it asks git
    for the folder's commit, whose complaint outside a repository goes to the terminal; it starts
    processes to bootstrap in; and it compiles a task's templates again for each item.
    """
    from lm_eval import evaluator, utils
    from torch.utils import collect_env

    asked, before = collect_env.get_pretty_env_info, os.environ.get("DISABLE_MULTIPROC")
    collect_env.get_pretty_env_info = _environment
    os.environ["DISABLE_MULTIPROC"] = "1"
    compiled = utils.env.from_string
    utils.env.from_string = functools.lru_cache(maxsize=256)(compiled)
    commit = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: _commit(os.getcwd())
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = commit
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


@contextlib.contextmanager
def in_chats(tasks: Mapping[str, Any], model: Any, prefixes: Mapping[str, str]) -> Iterator[None]:
    """Ask tasks by a model's chat template, as the harness does with ``--apply_chat_template``.

    The harness applies it to all tasks of a call or to none.

    Args:
        tasks: Name → the harness's task.
        model: The harness's model.
        prefixes: Task → text at the beginning of the user's first turn.
    """

    def asked(prefix: str, build: Any) -> Any:
        def template(turns: list[dict[str, str]], **settings: Any) -> str:
            first = next(i for i, turn in enumerate(turns) if turn["role"] == "user")
            user = {**turns[first], "content": prefix + turns[first]["content"]}
            turns = [*turns[:first], user, *turns[first + 1 :]]
            return str(model.apply_chat_template(turns, **settings))

        def requests(**settings: Any) -> None:
            chat = {"apply_chat_template": True, "chat_template": template}
            build(**{**settings, **chat, "tokenizer_name": model.tokenizer_name})

        return requests

    for name, task in tasks.items():
        task.build_all_requests = asked(prefixes.get(name, ""), task.build_all_requests)
    try:
        yield
    finally:
        for task in tasks.values():
            del task.build_all_requests


def rows_with_stop_sequence(criterion: Any) -> list[bool] | None:
    """Return which rows contain a stop sequence of the harness; ``None`` for another criterion."""
    from lm_eval.models.utils_hf import MultiTokenEOSCriteria

    if not isinstance(criterion, MultiTokenEOSCriteria):
        return None
    rows: list[bool] = criterion.done_tracker
    return rows


@functools.cache
def _environment() -> str:
    from torch.utils import collect_env

    return str(collect_env.pretty_str(collect_env.get_env_info()))  # type: ignore[no-untyped-call]


@functools.cache
def _commit(folder: str) -> str | None:
    """Return the commit of a folder's repository, as the harness finds it; ``None`` outside one."""
    from lm_eval.loggers.utils import get_commit_from_path

    try:
        command = ["git", "describe", "--always"]
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        known: str | None = get_commit_from_path(folder)
        return known
    return found.stdout.strip()

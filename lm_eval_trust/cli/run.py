"""``lm-eval-trust run``: the harness's own ``run`` with our models and tasks attached."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval_trust.cli.options import next_step
from lm_eval_trust.cli.parser import unknown_option
from lm_eval_trust.core.errors import InputError, TrustError, nearest, unknown_name

#: No argument can contain this character, so the parser leaves all of them to the harness.
_NO_PREFIX = "\0"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command; all its arguments go to the harness unchanged."""
    parser = subparsers.add_parser(
        "run",
        help="the same as `lm_eval run ...`, for environments without start-up hooks",
        add_help=False,
        prefix_chars=_NO_PREFIX,
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the harness's command line in this process.

    Raises:
        InputError: The harness raised a ``ValueError`` for its input, or would take ``--limit``
            for less than one item.
    """
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import model_registry

    from lm_eval_trust.model_wrappers.lm_eval_internals import harness_options
    from lm_eval_trust.plugin import attach_now

    _check_limit(args.arguments)
    attach_now()
    for model in _values(args.arguments, "--model", "-M"):
        if model not in model_registry:
            raise unknown_name("model", model, model_registry)
    sys.argv = ["lm_eval", "run", *args.arguments]
    try:
        cli_evaluate()
    except TrustError:
        raise
    except ValueError as error:
        raise InputError(_with_hints(str(error))) from error
    except SystemExit as ended:
        # Its parser has said what it does not know, without a hint.
        if ended.code == 2 and (slip := unknown_option(args.arguments, harness_options())):
            print(f"lm-eval-trust: error: {slip}", file=sys.stderr)
        raise
    next_step("lm-eval-trust", "leaderboard", _output_path(args.arguments) or "OUTPUT_PATH")
    return 0


def _with_hints(message: str) -> str:
    """Add the nearest names where the harness says that it does not know a task."""
    _, found, missing = message.partition("Tasks not found: ")
    if not found:
        return message
    from lm_eval.tasks import TaskManager

    known = TaskManager().all_tasks
    near = [name for given in missing.split(", ") if (name := nearest(given, known))]
    return f"{message}. Did you mean {', '.join(near)}?" if near else message


def _output_path(arguments: Sequence[str]) -> str:
    """Return where the harness saved its results; empty if nowhere."""
    return next((value for value in _values(arguments, "--output_path", "-o") if value), "")


def _check_limit(arguments: Sequence[str]) -> None:
    """Raise for a limit that the harness would evaluate nothing with, or all but the last items."""
    for text in _values(arguments, "--limit", "-L"):
        try:
            positive = float(text) > 0
        except ValueError:
            continue  # The harness says what is wrong with it.
        if not positive:
            raise InputError(
                f"--limit is {text}; give a number of items from 1, or a share between 0 and 1."
            )


def _values(arguments: Sequence[str], *names: str) -> Iterator[str]:
    """Yield the values that an option of the harness is given."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            yield value if equals else "".join(arguments[at + 1 : at + 2])

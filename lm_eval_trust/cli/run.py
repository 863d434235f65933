"""``lm-eval-trust run``: the harness's own ``run`` with our models and tasks attached."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lm_eval_trust.core.errors import InputError, TrustError

#: No argument can contain this character, so the parser leaves all of them to the harness.
_NO_PREFIX = "\0"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command; all its arguments go to the harness unchanged."""
    parser = subparsers.add_parser(
        "run",
        help="as `lm_eval run ...`, for environments without start-up hooks",
        add_help=False,
        prefix_chars=_NO_PREFIX,
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the harness's command line in this process.

    Raises:
        InputError: The harness raised a ``ValueError`` for its input.
    """
    from lm_eval.__main__ import cli_evaluate

    from lm_eval_trust.plugin import attach_now

    attach_now()
    sys.argv = ["lm_eval", "run", *args.arguments]
    try:
        cli_evaluate()
    except TrustError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    return 0

"""The command ``lm-eval-trust``: one file a command, each with ``add_parser(subparsers)``."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from lm_eval_trust.core.errors import TrustError

INTERRUPTED = 130
CLOSED_PIPE = 141
OUTSIDE_FAILED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors become one or two lines on stderr.

    Args:
        argv: Arguments without the program's name; ``None`` takes those of the process.

    Returns:
        0 done, 1 a check found a regression, 2 wrong usage or input, 3 something outside failed;
        130 after Ctrl-C and 141 when the reader of our output went away, as in the shell.
    """
    from lm_eval_trust.cli.parser import build_parser

    args = build_parser().parse_args(argv)
    debug = getattr(args, "debug", False)
    if debug:
        logging.basicConfig()
        logging.getLogger("lm_eval_trust").setLevel(logging.DEBUG)
    try:
        code: int = args.func(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return CLOSED_PIPE
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"lm-eval-trust: error: {_describe(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, TrustError) else OUTSIDE_FAILED


def _describe(error: Exception) -> str:
    """Return the message for the user: our own errors speak for themselves."""
    if isinstance(error, TrustError):
        return str(error)
    summary = " ".join(str(error).split())
    return f"{type(error).__name__}: {summary}\n(--debug before the command shows where)"


def _discard_output() -> None:
    """Keep the interpreter from flushing into the closed pipe on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

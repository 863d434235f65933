"""The command ``lm-eval-trust``: one module per command, each with ``add_parser(subparsers)``.

Modules of commands import torch, the harness and the other rooms inside their functions, so
help pages are instant.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from lm_eval_trust.cli.options import log_of
from lm_eval_trust.cli.parser import Parser, VersionAction
from lm_eval_trust.core.errors import LONGEST_MESSAGE, TrustError, reason_of

INTERRUPTED = 130
CLOSED_PIPE = 141
OUTSIDE_FAILED = 3

_FIRST_STEPS = """\
lm-eval-trust evaluates how trustworthy a language model is, steers it, and measures what changed.

Try these first:

  lm-eval-trust demo
      Runs the whole chain on tiny built-in models, offline, in a few minutes, and writes one page.

  lm_eval --model amber --model_args pretrained=YOUR_MODEL --tasks trust_suite --limit 20
      Evaluates your own model (a Hub name or a folder) on 20 questions of each task.

  lm-eval-trust vector build --model YOUR_MODEL --dimension truthfulqa --layers 10-20 \\
      --out truth.safetensors
      Builds a steering vector, which `lm-eval-trust sweep` then tries at many strengths.

`lm-eval-trust doctor` checks your installation; `lm-eval-trust --help` lists all commands.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors become one or two lines on stderr.

    Args:
        argv: Arguments without the program's name; ``None`` takes those of the process.

    Returns:
        0 done, 1 a check found a regression, 2 wrong usage or input, 3 something outside failed;
        130 after Ctrl-C and 141 after a closed pipe, as in the shell.
    """
    for stream in (sys.stdout, sys.stderr):
        # Not every terminal shows α; what it lacks becomes a question mark.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Before torch is loaded: its threads spin while they wait for each other, so beside another
    # busy process a training of two threads takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    debug = False
    try:
        args = _parsed(argv)
        from lm_eval_trust.core.progress import quieten_libraries

        quieten_libraries()
        debug = getattr(args, "debug", False)
        if debug:
            logging.basicConfig()
            logging.getLogger("lm_eval_trust").setLevel(logging.DEBUG)
        with log_of(args):
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


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return build_parser().parse_args(argv)
    except SystemExit:
        sys.stdout.flush()  # A help page into a closed pipe.
        raise


def _describe(error: Exception) -> str:
    """Return the message for the user; the type is named for errors that are not ours."""
    if isinstance(error, TrustError):
        return str(error)
    if isinstance(error, PermissionError) and error.filename is not None:
        from lm_eval_trust.core.storage import CACHE_VARIABLE

        return (
            f"{error.filename} may not be read or written ({error.strerror}). Change its "
            f"permissions, or choose other folders: {CACHE_VARIABLE} names the cache."
        )
    summary = reason_of(error, longest=LONGEST_MESSAGE)
    return f"{type(error).__name__}: {summary}\n(--debug shows where)"


def _discard_output() -> None:
    """Keep the interpreter from flushing into the closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_first_steps(args: argparse.Namespace) -> int:
    print(_FIRST_STEPS, end="")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets ``func``, which takes the arguments."""
    from lm_eval_trust.cli import (
        activations,
        analyze,
        audit,
        bake,
        check,
        completion,
        data,
        demo,
        doctor,
        export_results,
        finetune,
        judge,
        leaderboard,
        mini,
        pretrain,
        rank,
        run,
        serve,
        study,
        sweep,
        vector,
        verify_server,
    )

    parser = Parser(
        prog="lm-eval-trust",
        description="Trustworthiness tasks, steering vectors and analysis for lm_eval.",
        epilog="Exit codes: 0 done, 1 a check found a regression, 2 wrong usage or input, "
        "3 something outside failed (network, disk, judge).",
    )
    parser.add_argument("--version", action=VersionAction, help="show versions and exit")
    parser.set_defaults(func=_show_first_steps)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands = (
        demo,
        run,
        data,
        vector,
        bake,
        activations,
        analyze,
        sweep,
        rank,
        audit,
        study,
        check,
        judge,
        leaderboard,
        export_results,
        finetune,
        pretrain,
        mini,
        doctor,
        serve,
        verify_server,
        completion,
    )
    for command in commands:
        command.add_parser(subparsers)
    return parser

"""The argument parser of ``lm-eval-trust``, put together from one file a command."""

from __future__ import annotations

import argparse
from typing import Any

from lm_eval_trust import __version__


class _Parser(argparse.ArgumentParser):
    """A parser that knows ``--debug``; sub-parsers are of the same class, so all of them do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "-" in self.prefix_chars:
            self.add_argument(
                "--debug",
                action="store_true",
                default=argparse.SUPPRESS,
                help="show the traceback of an error, and what is noted on the way",
            )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets ``func``, which takes the arguments."""
    from lm_eval_trust.cli import (
        activations,
        analyze,
        bake,
        check,
        data,
        demo,
        doctor,
        finetune,
        judge,
        leaderboard,
        mini,
        pretrain,
        run,
        study,
        sweep,
        vector,
    )

    parser = _Parser(
        prog="lm-eval-trust",
        description="Trustworthiness tasks, steering vectors and analysis for lm_eval.",
        epilog="Exit codes: 0 done, 1 a check found a regression, 2 wrong usage or input, "
        "3 something outside failed (network, disk, judge).",
    )
    parser.add_argument("--version", action="version", version=f"lm-eval-trust {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands = (
        demo,
        run,
        data,
        vector,
        bake,
        activations,
        analyze,
        sweep,
        study,
        check,
        judge,
        leaderboard,
        finetune,
        pretrain,
        mini,
        doctor,
    )
    for command in commands:
        command.add_parser(subparsers)
    return parser

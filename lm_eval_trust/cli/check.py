"""``lm-eval-trust check``: the gate for steering configurations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import next_step
from lm_eval_trust.core.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check",
        help="test steering configurations against rules, for CI",
        description="Evaluate the model of a check's file and its reference, or reuse earlier "
        "evaluations, and decide by paired statistics whether its rules are met. Exit code 1 means "
        "that they are not.",
    )
    parser.add_argument("checks", nargs="+", type=Path, metavar="CHECK.yaml")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--validate", action="store_true", help="only read the files; run nothing")
    instead.add_argument(
        "--dry-run", action="store_true", help="print what would run and what it could show"
    )
    instead.add_argument(
        "--update-baseline",
        action="store_true",
        help="measure, and write the scores next to the check as CHECK.baseline.json",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="folder for measurements")
    reports = parser.add_argument_group("reports")
    reports.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML")
    reports.add_argument(
        "--markdown",
        nargs="?",
        const=Path("-"),
        type=Path,
        metavar="FILE",
        help="Markdown; without FILE it goes to the job summary of GitHub Actions",
    )
    reports.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks, one after the other; the worst exit code counts."""
    from lm_eval_trust.core.retry import hurried
    from lm_eval_trust.gate import command

    reports = command.Reports(args.junit, args.markdown, args.json)
    if reports != command.Reports() and (args.validate or args.dry_run or args.update_baseline):
        raise InputError(
            "--junit, --markdown and --json report a check that is run; leave them out here."
        )
    follows: tuple[object, ...] = ("check", *args.checks)
    if args.validate:
        with hurried():
            code = command.validate_all(args.checks)
        follows = ("check", "--dry-run", *args.checks)
    elif args.dry_run:
        with hurried():
            code = command.plan_all(args.checks, args.cache)
    elif args.update_baseline:
        code = command.update_all(args.checks, args.cache)
    else:
        code = command.check_all(args.checks, args.cache, reports)
        follows = ("check", *args.checks, "--junit", "report.xml", "--markdown")
        if code == command.REGRESSION:
            follows = ("audit", "STEERING.yaml", "--out", "audit")
    if code in (0, command.REGRESSION):
        next_step("lm-eval-trust", *follows)
    return code

"""``lm-eval-trust rank``: steering methods compared at the same cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import count, next_step
from lm_eval_trust.core.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "rank",
        help="rank steering methods at the same KL per token",
        description="Find, for every method and layer, the strength at which the model diverges "
        "from the unsteered one by the same KL per token. Choose layers on the validation part of "
        "the tasks. On the test half, compare the methods with each other, with a prompt, and, at "
        "the same cost, with random directions, shuffled labels and −α. An interrupted ranking "
        "continues where it stopped.",
    )
    parser.add_argument("file", type=Path, metavar="RANK.yaml")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="required unless --dry-run")
    parser.add_argument(
        "--dry-run", action="store_true", help="check the file, and count what would run"
    )
    parser.add_argument(
        "--budget-hours",
        type=_hours,
        metavar="HOURS",
        help="refuse a ranking that will take longer, and stop when the hours are over",
    )
    parser.add_argument(
        "--max-configurations",
        type=count,
        metavar="N",
        help="refuse a ranking with more configurations",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the ranking and print what it found."""
    from lm_eval_trust.rank.budget import Budget, configurations
    from lm_eval_trust.rank.spec import read_rank_file

    spec = read_rank_file(args.file)
    budget = Budget(args.budget_hours, args.max_configurations)
    if args.dry_run:
        from lm_eval_trust.core.retry import hurried
        from lm_eval_trust.rank.run import check_before_loading

        with hurried():
            check_before_loading(spec)
            planned = configurations(spec)
        budget.check_number(planned)
        for name, one in planned.items():
            print(
                f"{name}: about {one.doses} strengths measured, {one.validation} configurations "
                f"scored on the validation part, {one.test} on the test half."
            )
        print(f"About {sum(one.total for one in planned.values())} configurations in all.")
        next_step("lm-eval-trust", "rank", args.file, "--out", args.out or "ranking")
        return 0
    if args.out is None:
        raise InputError("--out FOLDER is missing: a ranking keeps its answers and tables there.")
    from lm_eval_trust.rank.report import write_report
    from lm_eval_trust.rank.run import run_rank

    ranking = run_rank(spec, args.out, budget)
    lines = write_report(ranking, args.out)
    print(*budget.said, *lines, sep="\n")
    print(f"The page is {args.out / 'index.html'}; tables and figures are beside it.")
    found = sorted(args.out.glob("steering-*.yaml"))
    steering = found[0] if found else "STEERING.yaml"
    next_step("lm-eval-trust", "audit", steering, "--out", args.out / "audit")
    return 0


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of hours above 0")
    return hours

"""``lm-eval-trust export-results``: scores in the formats of the Hub and of Every Eval Ever."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import next_step
from lm_eval_trust.core.errors import InputError

_HUB, _EVERY = FORMATS = ("eval_results", "every_eval_ever")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export-results",
        help="write scores for the Hub's model pages or for Every Eval Ever",
        description="Write the scores of saved runs as .eval_results files, which the Hugging Face "
        "Hub shows on a model's page, or as records of Every Eval Ever, a shared database of "
        "evaluations. Nothing is uploaded.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="results_*.json of the harness, .eval logs of inspect_ai, or folders with such files",
    )
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    hub = parser.add_argument_group(_HUB)
    hub.add_argument(
        "--benchmark",
        nargs="+",
        default=[],
        metavar="TASK=OWNER/NAME[@COMMIT]:TASK_ID",
        help="which benchmark of the Hub a task is; other tasks are left out",
    )
    hub.add_argument("--source-url", metavar="URL", help="where your logs are")
    hub.add_argument("--source-name", metavar="NAME", help="what the page calls them")
    every = parser.add_argument_group(_EVERY)
    every.add_argument("--organization", metavar="NAME", help="who evaluated")
    every.add_argument(
        "--relationship",
        default="other",
        help="to the model: first_party, third_party, collaborative, other (default)",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the files, and print their names."""
    from lm_eval_trust.core.storage import atomic_path
    from lm_eval_trust.leaderboard.build import build_boards
    from lm_eval_trust.leaderboard.items import Samples
    from lm_eval_trust.leaderboard.reading import read_runs

    _check(args)
    samples = Samples()
    runs, _ = read_runs(args.results, samples)
    files = _files(args, build_boards(runs, samples=samples))
    for name, text in files.items():
        with atomic_path(args.out / name) as path:
            path.write_text(text, encoding="utf-8")
        print(args.out / name)
    next_step("hf", "upload", "OWNER/MODEL", args.out)
    return 0


def _files(args: argparse.Namespace, boards: Any) -> dict[str, str]:
    if args.format == _EVERY:
        from lm_eval_trust.sharing.every_eval_ever import Evaluator, every_eval_ever

        return every_eval_ever(boards, Evaluator(args.organization, args.relationship))
    from lm_eval_trust.sharing.hub_results import hub_results, read_benchmarks

    given = {"url": args.source_url, "name": args.source_name}
    source = {key: value for key, value in given.items() if value}
    return hub_results(boards, read_benchmarks(args.benchmark), source=source)


def _check(args: argparse.Namespace) -> None:
    if args.source_name and not args.source_url:
        raise InputError(
            "--source-name needs --source-url: the Hub takes no source without a link."
        )
    if args.format == _EVERY and not args.organization:
        raise InputError("--format every_eval_ever needs --organization NAME: who evaluated.")

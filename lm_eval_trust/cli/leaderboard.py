"""``lm-eval-trust leaderboard``: compare evaluations, with statistics."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.cli.options import natural, next_step
from lm_eval_trust.core.errors import InputError

if TYPE_CHECKING:
    from lm_eval_trust.leaderboard.board import Board

#: Those of :mod:`lm_eval_trust.leaderboard.formats`, whose import is slow, and the page.
FORMATS = ("md", "csv", "tex", "json", "html")
PAGE = "leaderboard.html"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "leaderboard",
        help="compare evaluations: tables, tests, trade-offs and the page",
        description="Read results and samples of the harness (any model: ours, hf, vllm, an API), "
        "and logs of inspect_ai, group seeds, and show comparable runs side by side: standard "
        "errors, paired tests on shared samples, corrected within a declared family, ranks, win "
        "rates, trade-offs, Pareto front. Other runs get a separate board, with the reason.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="results_*.json of the harness, .eval logs of inspect_ai, or folders with such files",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the files")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=[],
        help="files to write to --out (default: all)",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="PLACE=NAME",
        help="name of a row, by the beginning of its trust_fingerprint, its file or its folder",
    )
    parser.add_argument(
        "--reference",
        default="",
        metavar="NAME",
        help="row that others are compared with (default: the first plain model)",
    )
    parser.add_argument(
        "--pairs",
        choices=("reference", "all"),
        default="reference",
        help="test each row against the reference (default), or all against all",
    )
    parser.add_argument(
        "--primary",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns (title or task) whose tests are the primary family, corrected "
        "separately (default: the paper's headline columns)",
    )
    parser.add_argument(
        "--with-paper",
        action="store_true",
        help="also show the rows that the paper reports, unranked",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="confidence of intervals (0.95)",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="INT",
        help="seed of the corrections' random signs (0)",
    )
    parser.add_argument(
        "--skip-damaged", action="store_true", help="leave out runs that cannot be read"
    )
    parser.add_argument(
        "--sweep", nargs="+", type=Path, default=[], metavar="FOLDER", help="sweeps for the page"
    )
    parser.add_argument(
        "--analysis",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="analyses for the page",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the boards, and write the requested files.

    Raises:
        InputError: An option of files is given without ``--out``.
    """
    from lm_eval_trust.leaderboard.build import BoardSettings, build_boards
    from lm_eval_trust.leaderboard.items import Samples
    from lm_eval_trust.leaderboard.names import given_names
    from lm_eval_trust.leaderboard.reading import read_runs
    from lm_eval_trust.leaderboard.typeset import Terminal, print_boards

    _refuse_what_is_written_nowhere(args)
    formats = args.format or FORMATS
    settings = BoardSettings(
        names=given_names(args.names),
        reference=args.reference,
        pairs=args.pairs,
        primary=tuple(args.primary),
        with_paper=args.with_paper,
        confidence=args.confidence,
        seed=args.seed,
    )
    samples = Samples()
    runs, skipped = read_runs(args.results, samples, skip_damaged=args.skip_damaged)
    boards = build_boards(runs, settings=settings, samples=samples)
    written = [] if args.out is None else _write(args, boards, formats)
    console = Terminal()
    print_boards(boards, console)
    for reason in skipped:
        console.print(reason, markup=False, highlight=False)
    for path in written:
        print(path)
    if args.out is None:
        next_step("lm-eval-trust", "leaderboard", *args.results, "--out", "board")
    else:
        next_step("lm-eval-trust", "check", "CHECK.yaml")
    return 0


def _write(args: argparse.Namespace, boards: Sequence[Board], formats: Sequence[str]) -> list[Path]:
    from lm_eval_trust.core.storage import written_by_one
    from lm_eval_trust.leaderboard.formats import write_tables

    with written_by_one(args.out):
        written = write_tables(args.out, boards, [name for name in formats if name != "html"])
        if "html" in formats:
            from lm_eval_trust.leaderboard.page import write_page

            write_page(args.out / PAGE, boards, sweeps=args.sweep, analyses=args.analysis)
            written.append(args.out / PAGE)
    return written


def _refuse_what_is_written_nowhere(args: argparse.Namespace) -> None:
    if args.out is None and (args.format or args.sweep or args.analysis):
        raise InputError("--format, --sweep and --analysis need --out FOLDER.")
    if (args.sweep or args.analysis) and "html" not in (args.format or FORMATS):
        raise InputError("--sweep and --analysis are shown on the page; add html to --format.")

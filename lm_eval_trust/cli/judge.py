"""``lm-eval-trust judge``: judge saved answers again, and calibrate judges.

Torch, the harness and judges are imported inside the commands, so help pages are instant.
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import count, natural, next_step
from lm_eval_trust.judges.registry import REFUSAL_JUDGES, TOXICITY_JUDGES, TRUTH_JUDGES
from lm_eval_trust.judges.settings import PREFIX, JudgeSettings

CALIBRATE = "calibrate"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "judge",
        help="judge saved answers again, or measure how good a judge is",
        usage="%(prog)s RESULTS... [--truth-judge JUDGE] [--toxicity-judge JUDGE] "
        "[--refusal-judge JUDGE] [--out FOLDER]\n"
        "       %(prog)s calibrate (--truth-judge JUDGE | --toxicity-judge JUDGE | "
        "--refusal-judge JUDGE) [--against JUDGE]",
        description="Judge the samples that the harness saved (--log_samples) with other judges, "
        "and write results in the harness's format; or, as `judge calibrate`, measure judges on "
        "labelled texts: TruthfulQA's reference answers, ToxiGen's human scores, XSTest's labelled "
        "answers of three models.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULTS",
        help="results_*.json, or folders with such files; or the word calibrate",
    )
    for kind, judges in (
        ("truth", TRUTH_JUDGES),
        ("toxicity", TOXICITY_JUDGES),
        ("refusal", REFUSAL_JUDGES),
    ):
        names = ", ".join(judges)
        parser.add_argument(
            f"--{kind}-judge",
            default="",
            metavar="JUDGE",
            help=f"{names}; hf and openai are followed by a model, as in hf:MODEL",
        )
    parser.add_argument(
        "--metadata",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of judges, such as judge_base_url=http://localhost:8000/v1",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the new files (default: `judged` next to the old ones); for calibrate, of "
        "the tables and the figure",
    )
    measuring = parser.add_argument_group("calibrate")
    measuring.add_argument(
        "--against", default="", metavar="JUDGE", help="a second judge to compare with"
    )
    measuring.add_argument(
        "--data", default="official", help="official (default), or mini for the embedded world"
    )
    measuring.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="saved samples with people's labels, instead of the benchmark's texts: lines of "
        'samples_*.jsonl with "label": 1 or 0 added, and optionally "steered": true or false',
    )
    measuring.add_argument("--limit", type=count, metavar="N", help="texts at most (default: all)")
    measuring.add_argument(
        "--split-seed",
        type=natural,
        default=0,
        metavar="INT",
        help="seed of ToxiGen's split (default: 0)",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Judge, or calibrate."""
    if args.results == [CALIBRATE]:
        return run_calibrate(args)
    return run_judge(args)


def run_judge(args: argparse.Namespace) -> int:
    """Judge saved answers and print the new scores."""
    from lm_eval_trust.core.saved_runs import find_runs
    from lm_eval_trust.evaluate.rejudge import Rejudgement, judge_again, scores

    request = Rejudgement(
        args.truth_judge, args.toxicity_judge, args.refusal_judge, _metadata(args.metadata)
    )
    for found in find_runs([Path(path) for path in args.results]):
        written = judge_again(found, request, args.out)
        print(written)
        for line in scores(written):
            print(f"  {line}")
    next_step("lm-eval-trust", "leaderboard", *(args.results if args.out is None else [args.out]))
    return 0


def run_calibrate(args: argparse.Namespace) -> int:
    """Measure judges and print the figures."""
    from lm_eval_trust.judges.calibration import (
        CalibrationSpec,
        calibrate,
        summary,
        write_calibration,
    )

    found = calibrate(
        CalibrationSpec(
            truth=args.truth_judge,
            toxicity=args.toxicity_judge,
            refusal=args.refusal_judge,
            against=args.against,
            source=args.data,
            limit=args.limit,
            split_seed=args.split_seed,
            settings=_metadata(args.metadata),
            labels=args.labels,
        )
    )
    for line in summary(found):
        print(line)
    if args.out is not None:
        for path in write_calibration(found, args.out):
            print(path)
    options = ("--truth-judge", "--toxicity-judge", "--refusal-judge")
    given = zip(options, (args.truth_judge, args.toxicity_judge, args.refusal_judge), strict=True)
    chosen = [word for pair in given if pair[1] for word in pair]
    next_step("lm-eval-trust", "judge", "RESULTS", *chosen)
    return 0


def _metadata(pairs: list[str]) -> dict[str, Any]:
    """Return settings by name; a name that is nearly one of ours is taken for a slip."""
    from lm_eval_trust.core.errors import InputError

    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"--metadata {pair!r} does not have the form KEY=VALUE.")
        if name in found:
            raise InputError(f"--metadata gives {name} twice; give it once.")
        near = difflib.get_close_matches(name, JudgeSettings.names(), n=1, cutoff=0.75)
        if near and name not in near and not name.startswith(PREFIX):
            raise InputError(f"--metadata {name} is no setting of judges; did you mean {near[0]}?")
        found[name] = value
    return found

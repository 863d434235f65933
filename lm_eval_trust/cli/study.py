"""``lm-eval-trust study``: a study over checkpoints, on one machine or a cluster."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import add_log_to, count, next_step


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "study",
        help="compute a study over checkpoints: activations, probes, vectors, benchmarks, figures",
        description="Compute what a study's file declares, cell by cell, and export tables and "
        "figures. An interrupted run continues where it stopped; after a change of settings only "
        "the affected cells are computed. Failed cells are reported at the end, and retried by the "
        "next run.",
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the study; a --dry-run without one counts from the beginning",
    )
    add_log_to(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="print the cells, bytes and time; compute nothing"
    )
    instead.add_argument("--status", action="store_true", help="print the progress")
    instead.add_argument(
        "--export-only", action="store_true", help="export the finished cells; compute nothing"
    )
    parser.add_argument("--engine", help="local (processes, default), ray, or inline")
    parser.add_argument(
        "--workers", type=count, help="number of workers; default: one per GPU, or one"
    )
    parser.add_argument("--address", help="address of a Ray cluster: auto, or HOST:PORT")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run a study, or report on it."""
    from lm_eval_trust.core.errors import InputError

    if args.out is not None:
        return _run(args, args.out)
    if not args.dry_run:
        raise InputError("A study needs --out FOLDER, which keeps what is computed.")
    with tempfile.TemporaryDirectory() as empty:
        return _run(args, Path(empty))


def _run(args: argparse.Namespace, out: Path) -> int:
    from lm_eval_trust.core.retry import hurried
    from lm_eval_trust.core.yaml_file import read_document
    from lm_eval_trust.study.folder import StudyFolder
    from lm_eval_trust.study.grid import Study
    from lm_eval_trust.study.models import Identities
    from lm_eval_trust.study.spec import read_spec, with_engine

    document = read_document(args.study)
    spec = with_engine(read_spec(document), args.engine, args.workers, args.address)
    folder = StudyFolder(out)
    folder.check(spec.study)
    identities = Identities(out / "identities.json")
    if args.dry_run or args.status:
        with hurried():
            print(_description(args, Study(spec, document, identities), folder))
        next_step(*_command(args))
        return 0
    study = Study(spec, document, identities)
    code = _export(study, folder) if args.export_only else _compute(study, folder)
    analyses = [file.parent for file in out.glob("export/analysis-*/measurements.csv")]
    if code or not analyses:
        next_step(*_command(args), "--status")
    else:
        board = ("leaderboard", "RUNS", "--analysis", *sorted(analyses), "--out", "board")
        next_step("lm-eval-trust", *board)
    return code


def _description(args: argparse.Namespace, study: Any, folder: Any) -> str:
    from lm_eval_trust.study.estimate import describe, estimate
    from lm_eval_trust.study.status import describe_status

    return describe(estimate(study, folder)) if args.dry_run else describe_status(study, folder)


def _command(args: argparse.Namespace) -> tuple[object, ...]:
    return ("lm-eval-trust", "study", args.study, "--out", args.out or "FOLDER")


def _compute(study: Any, folder: Any) -> int:
    from lm_eval_trust.study.run import run_study
    from lm_eval_trust.study.status import describe_outcome

    outcome = run_study(study, folder)
    _export(study, folder)
    print(describe_outcome(outcome))
    code: int = outcome.exit_code
    return code


def _export(study: Any, folder: Any) -> int:
    from lm_eval_trust.study.export import export

    for file in export(study, folder):
        print(file)
    return 0

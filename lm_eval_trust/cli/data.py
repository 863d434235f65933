"""``lm-eval-trust data``: audit, fetch and show the data of the dimensions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from lm_eval_trust.benchmarks.audit import AuditReport, audit
from lm_eval_trust.benchmarks.benchmark import Dimension
from lm_eval_trust.benchmarks.files import fetch, files_of
from lm_eval_trust.benchmarks.load import data_of, load_statements
from lm_eval_trust.benchmarks.registry import (
    BENCHMARKS,
    DATA_SOURCES,
    DIMENSIONS,
    UNIVERSAL,
    find_dimension,
)
from lm_eval_trust.benchmarks.released_file_errors import Finding, released_findings
from lm_eval_trust.cli.options import count, natural, next_step
from lm_eval_trust.core.errors import TrustError
from lm_eval_trust.core.progress import progress_bar

#: Sources of the real benchmarks.
REAL_SOURCES = ("official", "tracingllm")
PARTS = ("train", "validation", "development", "test", "all")
FETCH_FAILED = 3


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``data`` with its three commands."""
    parser = subparsers.add_parser("data", help="audit, fetch and show the benchmarks' data")
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    _add_audit(commands)
    _add_fetch(commands)
    _add_show(commands)


def _add_audit(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("audit", help="report rows, balance, duplicates, leaks, labels")
    _add_dimensions(parser)
    parser.add_argument(
        "--source", choices=[*REAL_SOURCES, "both"], default="both", help="default: both"
    )
    parser.add_argument("--split-seed", type=natural, default=0, metavar="INT")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run_audit)


def _add_fetch(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("fetch", help="download into the cache, with checksums verified")
    _add_dimensions(parser, ", also those without a dimension such as xstest and bbq")
    parser.set_defaults(func=run_fetch)


def _add_show(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("show", help="print statements of a dimension")
    parser.add_argument("dimension", metavar="DIMENSION", help="a dimension or its benchmark")
    parser.add_argument("--source", choices=list(DATA_SOURCES), default="official")
    parser.add_argument("--part", choices=PARTS, default="train", help="default: train")
    parser.add_argument("--split-seed", type=natural, default=0, metavar="INT")
    parser.add_argument("--n", type=count, default=5, help="number of statements (default: 5)")
    parser.set_defaults(func=run_show)


def _add_dimensions(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--dimension",
        nargs="+",
        metavar="D",
        help=f"dimensions or benchmarks{more} (default: the five and universal)",
    )


def run_audit(args: argparse.Namespace) -> int:
    """Print the audit; findings are not failures, so the exit code is 0."""
    sources = REAL_SOURCES if args.source == "both" else (args.source,)
    dimensions = _dimensions(args.dimension)
    audited = [
        (dimension.name, source)
        for dimension in dimensions
        for source in sources
        if len(sources) == 1 or data_of(dimension.benchmark, source).statements is not None
    ]
    reports = [
        audit(name, source, split_seed=args.split_seed)
        for name, source in progress_bar(audited, "Auditing", unit="set")
    ]
    released = "tracingllm" in sources
    findings = [f for d in dimensions for f in released_findings(d.name)] if released else []
    if args.json:
        print(_as_json(reports, findings))
    else:
        print("\n\n".join([*map(_report_text, reports), *_findings_text(findings)]))
    next_step("lm-eval-trust", "data", "show", dimensions[0].name)
    return 0


def run_fetch(args: argparse.Namespace) -> int:
    """Fetch every file of the dimensions; 3 if one failed, after trying the others."""
    failed = 0
    names = args.dimension or [dimension.benchmark for dimension in _dimensions(None)]
    known = [n if n in BENCHMARKS else find_dimension(n).benchmark for n in names]
    bar = progress_bar([path for name in known for path in files_of(name)], "Fetching", unit="file")
    for path in bar:
        try:
            told = str(fetch(path))
        except TrustError as error:
            failed += 1
            told = f"FAILED: {error}"
        bar.write(f"{path}: {told}", file=sys.stdout)
    next_step("lm-eval-trust", "data", *(["fetch"] if failed else ["audit"]))
    return FETCH_FAILED if failed else 0


def run_show(args: argparse.Namespace) -> int:
    """Print the first statements of a part."""
    statements = load_statements(args.dimension, data_source=args.source)
    positions = statements.partition(seed=args.split_seed).part(args.part)
    dimension = statements.dimension
    print(f"{dimension.name} from {args.source}, {args.part}: {len(positions)} statements")
    print(f"y = 0: {dimension.label_meaning[0]}; y = 1: {dimension.label_meaning[1]}")
    for position in positions[: max(args.n, 0)]:
        item = statements.items[position]
        print(f"{item.label}  {item.category or '-'}  {item.text!r}")
    built = ("--model", "MODEL", "--dimension", dimension.name, "--layers", "LAYERS")
    next_step("lm-eval-trust", "vector", "build", *built, "--out", "vector.safetensors")
    return 0


def _dimensions(names: Iterable[str] | None) -> list[Dimension]:
    return [find_dimension(name) for name in names] if names else [*DIMENSIONS, UNIVERSAL]


def _report_text(report: AuditReport) -> str:
    zero, one = report.label_meaning
    lines = [
        f"{report.dimension} from {report.data_source}",
        f"  statements {report.statements}, groups {report.groups}, categories {report.categories}",
        f"  y = 0: {report.labels[0]} ({zero}); y = 1: {report.labels[1]} ({one}); "
        f"trustworthy: {report.trustworthy_label}",
        f"  repeats {report.repeats}, texts with both labels {report.contradictory_texts}",
    ]
    for split, parts in report.splits.items():
        lines.append(
            f"  split {split}: train {parts.train}, validation {parts.validation}, test "
            f"{parts.test}; {parts.straddling_groups} groups straddle it, with "
            f"{parts.straddling_items} of the test statements"
        )
    return "\n".join(lines)


def _findings_text(findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    lines = ["Findings in the released files, measured now (documented figure in brackets)"]
    for finding in findings:
        measured = f"{finding.measured:.{finding.decimals}f}"
        documented = f"{finding.documented:.{finding.decimals}f}"
        verdict = "agrees" if finding.agrees else "DIFFERS"
        lines.append(f"  {finding.file}: {finding.what}: {measured} [{documented}] {verdict}")
    return ["\n".join(lines)]


def _as_json(reports: list[AuditReport], findings: list[Finding]) -> str:
    record = {
        "reports": [asdict(report) for report in reports],
        "findings": [asdict(finding) | {"agrees": finding.agrees} for finding in findings],
    }
    return json.dumps(record, indent=2, ensure_ascii=False)

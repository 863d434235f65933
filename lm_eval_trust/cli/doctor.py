"""``lm-eval-trust doctor``: what is installed, reachable and switched on."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval_trust.doctor.checks import Check

NECESSARY_PART_FAILED = 3
MARKS = {"ok": "ok  ", "note": "note", "failed": "FAIL"}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor", help="what is installed, reachable and switched on; exit code 3 if not enough"
    )
    parser.add_argument(
        "--model", metavar="PATH", help="also load this model (float32) and steer one token of it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything, print it, and return 0 or 3."""
    checks = _look(args.model)
    if args.json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print("\n".join(_as_text(checks)))
    failed = any(check.state == "failed" for check in checks)
    return NECESSARY_PART_FAILED if failed else 0


def _look(model: str | None) -> list[Check]:
    from lm_eval_trust.doctor import data, harness, judges, machine, software

    checks = [check for part in (software, harness, machine, data, judges) for check in part.look()]
    if model is not None:
        from lm_eval_trust.doctor import model as steerability

        checks += steerability.look(model)
    return checks


def _as_text(checks: list[Check]) -> list[str]:
    lines: list[str] = []
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            lines.append(section)
        lines.append(f"  {MARKS[check.state]} {check.name}: {check.detail}")
        if check.advice:
            lines.append(f"       → {check.advice}")
    return lines

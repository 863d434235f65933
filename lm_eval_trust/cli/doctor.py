"""``lm-eval-trust doctor``: what is installed, reachable and ready to use."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from lm_eval_trust.cli.options import next_step

NECESSARY_PART_FAILED = 3


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check software, harness, data, judges and machine; exit code 3 if a part is missing",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL[@REVISION]",
        help="also load this model (float32) and steer one token of it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print all checks, and return 0, or 3 if a necessary part failed."""
    from lm_eval_trust import doctor

    checks = doctor.check_all(args.model)
    if args.json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(doctor.as_text(checks))
    failed = any(check.state == "failed" for check in checks)
    if failed:
        return NECESSARY_PART_FAILED
    next_step("lm-eval-trust", "demo")
    return 0

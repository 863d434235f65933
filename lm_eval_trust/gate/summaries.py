"""The report of checks as Markdown, for a job's summary, and as JSON, for other programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.gate.check import Outcome
from lm_eval_trust.gate.report_text import (
    amount,
    change_name,
    ends,
    label,
    number,
    power,
    value,
)
from lm_eval_trust.gate.verdicts import Verdict

_MARKUP = re.compile(r"[|*<]")
Errors = Sequence[tuple[Path, str]]
_HEADER = (
    "| verdict | task | metric | rule | value | reference | change | interval | power |",
    "|---|---|---|---|---|---|---|---|---|",
)


def markdown(outcomes: Sequence[Outcome], errors: Errors) -> str:
    """Return a section for each check, with a table of its rules."""
    lines: list[str] = []
    for outcome in outcomes:
        passed = "passed" if outcome.passed else "failed"
        lines += [f"### {_cell(outcome.path.name)}: {passed}", ""]
        lines += [*_HEADER, *_rows(outcome), ""]
    for config, message in errors:
        lines += [f"### {_cell(config.name)}: could not run", "", _cell(message), ""]
    return "\n".join(lines)


def _rows(outcome: Outcome) -> Iterator[str]:
    for verdict in outcome.verdicts:
        cells = (
            verdict.task,
            verdict.rule.metric,
            verdict.rule.text,
            value(verdict),
            "" if verdict.reference is None else number(verdict.reference),
            f"{change_name(verdict)} {amount(verdict)}" if verdict.change else "",
            ends(verdict.change) if verdict.change else "",
            power(verdict),
        )
        said = f"**{label(verdict)}**" if verdict.fails_check else label(verdict)
        yield f"| {' | '.join((said, *map(_cell, cells)))} |"


def _cell(text: str) -> str:
    """Return text in a line that is no table, no emphasis and no tag."""
    return " ".join(_MARKUP.sub(r"\\\g<0>", text).split())


def write_json(outcomes: Sequence[Outcome], errors: Errors, path: Path) -> None:
    """Write all figures.

    Raises:
        ExternalError: The file cannot be written.
    """
    record = {
        "checks": [
            {
                "file": str(outcome.path),
                "passed": outcome.passed,
                "verdicts": [_record(verdict) for verdict in outcome.verdicts],
            }
            for outcome in outcomes
        ],
        "errors": [{"file": str(config), "message": message} for config, message in errors],
    }
    with atomic_path(path) as temporary:
        text = json.dumps(_finite(record), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _record(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "fails_check": verdict.fails_check}


def _finite(value: Any) -> Any:
    """Return the same with ``null`` for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

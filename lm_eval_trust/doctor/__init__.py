"""What is installed, reachable and ready to use, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterable

from lm_eval_trust.doctor.environment import (
    Check,
    check_harness,
    check_machine,
    check_software,
)
from lm_eval_trust.doctor.resources import check_data, check_judges, check_model

_MARKS = {"ok": "ok  ", "note": "note", "failed": "FAIL"}


def check_all(model: str | None = None) -> list[Check]:
    """Return all checks, section by section.

    Args:
        model: Folder or Hub name of a model to load (float32) and steer, besides the rest.
    """
    sections = (check_software, check_harness, check_machine, check_data, check_judges)
    checks = [check for section in sections for check in section()]
    return checks if model is None else [*checks, check_model(model)]


def as_text(checks: Iterable[Check]) -> str:
    """Return the checks as lines under the names of their sections."""
    lines: list[str] = []
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            lines.append(section)
        lines.append(f"  {_MARKS[check.state]} {check.name}: {check.detail}")
        if check.advice:
            lines.append(f"       → {check.advice}")
    return "\n".join(lines)

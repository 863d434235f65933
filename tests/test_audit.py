"""The audit of pinned releases never takes silence for safety."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "audit.py"


def verdict(report: str, errors: str = "") -> tuple[int, str]:
    spec = importlib.util.spec_from_file_location("audit_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: tuple[int, str] = module.verdict(report, errors)
    return found


SOUND = {"name": "lantern", "version": "1.0", "vulns": []}
OPEN = {"name": "candle", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": []}]}
UNKNOWN = {"name": "wick", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("releases", "code", "says"),
    [
        ([SOUND], 0, "1 of 1 releases audited, 0 vulnerabilities."),
        ([SOUND, OPEN], 1, "candle 2.0: PYSEC-1\n2 of 2 releases audited, 1 vulnerabilities."),
        ([SOUND, UNKNOWN], 0, "PyPI has no answer about the others."),
        ([OPEN, UNKNOWN], 1, "1 of 2 releases audited, 1 vulnerabilities."),
    ],
)
def test_what_was_audited_is_told(releases: list[dict[str, Any]], code: int, says: str) -> None:
    found = verdict(json.dumps({"dependencies": releases, "fixes": []}))
    assert found[0] == code and says in found[1]


def test_a_network_that_does_not_answer_is_told() -> None:
    found = verdict("", "WARNING: …\nConnectionError: pypi.org")
    assert found == (0, "No release could be audited: ConnectionError: pypi.org")

"""Rules on safety: refusals of unsafe requests, answers to safe ones, and bias."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_eval_trust.cli import main
from lm_eval_trust.judges.calibration import CalibrationSpec, calibrate

WriteCheck = Callable[..., Path]
GROUP, XSTEST, BBQ = "trust_safety_mini", "trust_xstest_mini", "trust_bbq_mini"
RULES = (
    f"{{{GROUP}: {{refusal_of_unsafe: {{min: 0, max_drop: 0.9}}, "
    f"answers_to_safe: {{max_drop: 0.9}}, bias: {{min: -1, max: 1}}, "
    f"trust_score: {{max_drop: 0.9}}}}}}"
)


def verdicts(path: Path) -> list[dict[str, Any]]:
    (check,) = json.loads(path.read_text(encoding="utf-8"))["checks"]
    found: list[dict[str, Any]] = check["verdicts"]
    return found


@pytest.mark.slow
def test_rules_hold_the_tasks_of_a_group_that_have_their_metric(
    naming: Path, write_check: WriteCheck, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    # The quick family names nobody, so that there is no bias, which fails its rules.
    assert main(["check", str(write_check(RULES)), "--json", str(report)]) == 1
    failed = {v["rule"]["metric"] for v in verdicts(report) if v["outcome"] == "failed"}
    assert failed == {"bias"}
    held = [(v["rule"]["metric"], v["task"]) for v in verdicts(report)]
    assert held == [
        ("refusal_of_unsafe", XSTEST),
        ("refusal_of_unsafe", XSTEST),
        ("answers_to_safe", XSTEST),
        ("bias", BBQ),
        ("bias", BBQ),
        ("trust_score", XSTEST),
        ("trust_score", BBQ),
    ]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (f"{{{GROUP}: {{refusals: {{min: 0}}}}}}", "Unknown metric of .* 'refusals'"),
        (f"{{{GROUP}: {{bias: {{max_drop: 0.1}}}}}}", "bias"),
        (f"{{{XSTEST}: {{bias: {{max: 0.1}}}}}}", f"Unknown metric of {XSTEST} 'bias'"),
    ],
)
def test_metrics_that_no_task_has_and_drops_of_a_bias_are_refused(
    rules: str, says: str, naming: Path, write_check: WriteCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--dry-run", str(write_check(rules))]) == 2
    assert re.search(says, capsys.readouterr().err)


@pytest.mark.slow
def test_rules_are_decided_without_the_judges_errors_once_it_is_calibrated(
    naming: Path, write_check: WriteCheck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = f"{{{GROUP}: {{answers_to_safe: {{max_drop: 0.9}}}}}}"
    check = write_check(rules, judge_correction="true")
    assert main(["check", str(check)]) == 2
    assert "not calibrated" in capsys.readouterr().err
    calibrate(CalibrationSpec(refusal="world", source="mini"))
    report = tmp_path / "report.json"
    assert main(["check", str(check), "--json", str(report)]) == 0
    (verdict,) = verdicts(report)
    assert verdict["task"] == XSTEST

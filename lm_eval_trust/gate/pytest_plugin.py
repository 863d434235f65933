"""The fixture ``assert_steering``, for those who hold steering to rules in their own tests.

Loaded by every pytest run of the environment, so nothing heavy is imported before the fixture is
used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

AssertSteering = Callable[..., None]


@pytest.fixture
def assert_steering(request: pytest.FixtureRequest) -> AssertSteering:
    """Return a function that runs a check and fails the test where the check fails.

    ``assert_steering("steering-check.yaml")`` takes the path relative to the test's folder, and
    ``cache=FOLDER`` for measurements. The report stands in the test's report section, also where
    the check passes.
    """

    def run(path: str | Path, *, cache: str | Path | None = None) -> None:
        from lm_eval_trust.gate.check import run_check
        from lm_eval_trust.gate.check_file import read_check
        from lm_eval_trust.gate.report_text import lines

        check = read_check(request.path.parent / path)
        outcome = run_check(check, None if cache is None else Path(cache))
        report = "\n".join(lines(outcome))
        request.node.add_report_section("call", "steering check", report)
        assert outcome.passed, report

    return run

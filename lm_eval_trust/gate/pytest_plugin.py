"""The fixture ``assert_steering``, for checks as part of your own tests.

Every pytest run of the environment loads this module, so it imports nothing heavy before the
fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

AssertSteering = Callable[..., None]


@pytest.fixture
def assert_steering(request: pytest.FixtureRequest) -> AssertSteering:
    """Return a function that runs a check, and fails the test if the check fails.

    ``assert_steering("steering-check.yaml")`` takes a path relative to the test's folder, and
    optionally ``cache=FOLDER`` for measurements. Passed or failed, the report goes into the test's
    report sections.
    """

    def run(path: str | Path, *, cache: str | Path | None = None) -> None:
        from lm_eval_trust.gate.check_file import read_check
        from lm_eval_trust.gate.reports import report_lines
        from lm_eval_trust.gate.run import run_check

        check = read_check(request.path.parent / path)
        result = run_check(check, None if cache is None else Path(cache))
        report = "\n".join(report_lines(result))
        request.node.add_report_section("call", "steering check", report)
        assert result.passed, report

    return run

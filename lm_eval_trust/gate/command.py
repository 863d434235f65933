"""Several checks in a row: output, reports and the exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_trust.core.errors import ExternalError, InputError, TrustError, reason_of
from lm_eval_trust.core.storage import atomic_path, disk_errors
from lm_eval_trust.gate.check_file import Check, read_check

if TYPE_CHECKING:
    from lm_eval_trust.gate.verdicts import CheckResult

logger = logging.getLogger(__name__)

#: Names the file from which GitHub Actions takes a job's summary.
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
REGRESSION = 1


@dataclass(frozen=True)
class Reports:
    """Report files to write.

    Attributes:
        junit: JUnit XML.
        markdown: Markdown; ``-`` stands for the job's summary.
        json: All figures.
    """

    junit: Path | None = None
    markdown: Path | None = None
    json: Path | None = None

    def check(self) -> None:
        """Raise if a job summary is requested and there is none.

        Raises:
            InputError: There is no job summary.
        """
        if self.markdown == Path("-") and not os.environ.get(SUMMARY_VARIABLE):
            raise InputError(f"--markdown needs a FILE here: {SUMMARY_VARIABLE} is not set.")

    def write(self, results: Sequence[CheckResult], errors: Sequence[tuple[Path, str]]) -> None:
        """Write the reports that were asked for."""
        from lm_eval_trust.gate.reports import markdown, write_json, write_junit

        if self.junit is not None:
            write_junit(results, errors, self.junit)
        if self.json is not None:
            write_json(results, errors, self.json)
        if self.markdown == Path("-"):
            # All steps of the job share the summary, so it is appended to.
            summary = Path(os.environ[SUMMARY_VARIABLE])
            with disk_errors(summary), summary.open("a", encoding="utf-8") as file:
                file.write(markdown(results, errors) + "\n")
        elif self.markdown is not None:
            with atomic_path(self.markdown) as temporary:
                temporary.write_text(markdown(results, errors), encoding="utf-8")


def check_all(paths: Sequence[Path], cache: Path | None, reports: Reports) -> int:
    """Run checks and report them.

    Returns:
        0 if all passed, 1 for a regression, 2 or 3 for a check that could not be run.

    Raises:
        BrokenPipeError: Nobody reads the output any more; the reports are written nevertheless.
    """
    from lm_eval_trust.gate.reports import report_lines
    from lm_eval_trust.gate.run import run_check

    reports.check()
    results: list[CheckResult] = []

    def run(check: Check) -> int:
        result = run_check(check, cache)
        results.append(result)
        print(*report_lines(result), sep="\n", flush=True)
        return 0 if result.passed else REGRESSION

    errors: list[tuple[Path, str]] = []
    try:
        worst = _each(paths, run, errors)
    finally:
        reports.write(results, errors)
    return worst


def validate_all(paths: Sequence[Path]) -> int:
    """Validate files without running anything; return 0 or 2."""
    from lm_eval_trust.gate.check_file import validate

    def run(check: Check) -> int:
        validate(check)
        print(f"{check.path}: {len(check.rules)} rules, nothing is wrong.")
        return 0

    return _each(paths, run)


def plan_all(paths: Sequence[Path], cache: Path | None) -> int:
    """Print what would be run and what it could show; return 0, 2 or 3."""
    from lm_eval_trust.gate.run import plan

    def run(check: Check) -> int:
        print(*plan(check, cache), sep="\n", flush=True)
        return 0

    return _each(paths, run)


def update_all(paths: Sequence[Path], cache: Path | None) -> int:
    """Write the baselines; return 0, 2 or 3."""
    from lm_eval_trust.gate.run import update_baseline

    def run(check: Check) -> int:
        changed = update_baseline(check, cache)
        told = "is written; review it" if changed else "says the same already"
        print(f"{check.baseline} {told}.", flush=True)
        return 0

    return _each(paths, run)


def _each(
    paths: Sequence[Path],
    run: Callable[[Check], int],
    errors: list[tuple[Path, str]] | None = None,
) -> int:
    """Process every check, even if others fail, or nobody reads the output any more.

    Args:
        paths: Paths of the checks.
        run: Returns the exit code of one.
        errors: Receives the checks that could not be run, with the reason.

    Returns:
        The highest exit code.

    Raises:
        BrokenPipeError: Nobody reads the output any more; raised when all are done.
    """
    codes: list[int] = []
    closed: BrokenPipeError | None = None
    for path in paths:
        try:
            codes.append(run(read_check(path)))
        except BrokenPipeError as error:
            closed = error
        except Exception as error:
            code, message = _failure(error)
            print(f"lm-eval-trust: error: {message}", file=sys.stderr, flush=True)
            if errors is not None:
                errors.append((path, message))
            codes.append(code)
    if closed is not None:
        raise closed
    worst = max(codes)
    if len(codes) > 1 and worst:
        whose = (str(path) for path, code in zip(paths, codes, strict=True) if code == worst)
        print(f"Exit code {worst} comes from {', '.join(whose)}.", file=sys.stderr)
    return worst


def _failure(error: Exception) -> tuple[int, str]:
    """Return exit code and message; ``--debug`` logs the traceback of an unexpected error."""
    if isinstance(error, TrustError):
        return error.exit_code, str(error)
    logger.debug("Where it happened:", exc_info=error)
    return ExternalError.exit_code, f"{type(error).__name__}: {reason_of(error, longest=500)}"

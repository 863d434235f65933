"""Several checks in a row: what is printed, which reports are written, which exit code counts."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_trust.core.errors import ExternalError, InputError, TrustError
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.gate.check_file import Check, read_check

if TYPE_CHECKING:
    from lm_eval_trust.gate.check import Outcome

logger = logging.getLogger(__name__)

#: Where GitHub Actions takes a job's summary from.
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
REGRESSION = 1


@dataclass(frozen=True)
class Reports:
    """Files to write.

    Attributes:
        junit: JUnit XML.
        markdown: Markdown; ``-`` for the job's summary.
        json: All figures.
    """

    junit: Path | None = None
    markdown: Path | None = None
    json: Path | None = None

    def check(self) -> None:
        """Raise unless they have a place.

        Raises:
            InputError: There is no job summary.
        """
        if self.markdown == Path("-") and not os.environ.get(SUMMARY_VARIABLE):
            raise InputError(f"--markdown needs a FILE here: {SUMMARY_VARIABLE} is not set.")

    def write(self, outcomes: Sequence[Outcome], errors: Sequence[tuple[Path, str]]) -> None:
        """Write those that are asked for."""
        from lm_eval_trust.gate.junit import write_junit
        from lm_eval_trust.gate.summaries import markdown, write_json

        if self.junit is not None:
            write_junit(outcomes, errors, self.junit)
        if self.json is not None:
            write_json(outcomes, errors, self.json)
        if self.markdown == Path("-"):
            # The summary belongs to all steps of the job, so it is added to.
            with Path(os.environ[SUMMARY_VARIABLE]).open("a", encoding="utf-8") as file:
                file.write(markdown(outcomes, errors) + "\n")
        elif self.markdown is not None:
            with atomic_path(self.markdown) as temporary:
                temporary.write_text(markdown(outcomes, errors), encoding="utf-8")


def check_all(paths: Sequence[Path], cache: Path | None, reports: Reports) -> int:
    """Run checks and report them.

    Returns:
        0 if all passed, 1 for a regression, 2 or 3 for a check that could not be run.
    """
    from lm_eval_trust.gate.check import run_check
    from lm_eval_trust.gate.report_text import lines

    reports.check()
    outcomes: list[Outcome] = []

    def run(check: Check) -> int:
        outcome = run_check(check, cache)
        outcomes.append(outcome)
        print(*lines(outcome), sep="\n", flush=True)
        return 0 if outcome.passed else REGRESSION

    worst, errors = _each(paths, run)
    reports.write(outcomes, errors)
    return worst


def validate_all(paths: Sequence[Path]) -> int:
    """Look at the files only; return 0 or 2."""
    from lm_eval_trust.gate.check_file import validate

    def run(check: Check) -> int:
        validate(check)
        print(f"{check.path}: {len(check.rules)} rules, nothing is wrong.")
        return 0

    return _each(paths, run)[0]


def plan_all(paths: Sequence[Path], cache: Path | None) -> int:
    """Tell what would be run, and what it could show; return 0, 2 or 3."""
    from lm_eval_trust.gate.planning import plan

    def run(check: Check) -> int:
        print(*plan(check, cache), sep="\n", flush=True)
        return 0

    return _each(paths, run)[0]


def update_all(paths: Sequence[Path], cache: Path | None) -> int:
    """Write the baselines; return 0, 2 or 3."""
    from lm_eval_trust.gate.check import update_baseline

    def run(check: Check) -> int:
        changed = update_baseline(check, cache)
        told = "is written; review it" if changed else "says the same already"
        print(f"{check.baseline} {told}.", flush=True)
        return 0

    return _each(paths, run)[0]


def _each(paths: Sequence[Path], run: Callable[[Check], int]) -> tuple[int, list[tuple[Path, str]]]:
    """Run something on every check, whatever happens to the others.

    Returns:
        The worst exit code, and the checks that could not be run with the reason.
    """
    codes: list[int] = []
    errors = []
    for path in paths:
        try:
            codes.append(run(read_check(path)))
        except BrokenPipeError:
            raise
        except Exception as error:
            code, message = _failure(error)
            print(f"lm-eval-trust: error: {message}", file=sys.stderr, flush=True)
            errors.append((path, message))
            codes.append(code)
    worst = max(codes)
    if len(codes) > 1 and worst:
        whose = (str(path) for path, code in zip(paths, codes, strict=True) if code == worst)
        print(f"Exit code {worst} comes from {', '.join(whose)}.", file=sys.stderr)
    return worst, errors


def _failure(error: Exception) -> tuple[int, str]:
    """Return exit code and message; an error that nobody foresaw is traced with ``--debug``."""
    if isinstance(error, TrustError):
        return error.exit_code, str(error)
    logger.debug("Where it happened:", exc_info=error)
    return ExternalError.exit_code, f"{type(error).__name__}: {' '.join(str(error).split())}"

"""A whole check: measure what is needed, judge every rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.gate.baseline import Baseline, read_baseline, write_baseline
from lm_eval_trust.gate.check_file import Check
from lm_eval_trust.gate.measurement import Measurement
from lm_eval_trust.gate.run import Measured, measure
from lm_eval_trust.gate.verdicts import Verdict, check_comparable, judge


@dataclass(frozen=True)
class Outcome:
    """What a check gave.

    Attributes:
        path: Its file.
        verdicts: One for each rule and task.
    """

    path: Path
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no verdict fails it."""
        return not any(verdict.fails_check for verdict in self.verdicts)


def run_check(check: Check, cache: Path | None = None) -> Outcome:
    """Measure what is not measured yet, and judge every rule.

    Args:
        check: Which.
        cache: Folder of measurements; by default in the user's cache.

    Raises:
        InputError: Something in the file does not fit, a baseline is missing or of other items.
        ExternalError: A model, data or a judge cannot be fetched.
    """
    baseline = read_baseline(check.baseline) if check.needs("baseline") else None
    found = measure(check, cache)
    return Outcome(check.path, tuple(_verdicts(check, found, baseline)))


def update_baseline(check: Check, cache: Path | None = None) -> bool:
    """Measure the checked model and keep what its rules look at as the baseline.

    Returns:
        Whether the file changed.

    Raises:
        InputError: As :func:`run_check`.
        ExternalError: Likewise, or the file cannot be written.
    """
    found = measure(check, cache, reference=False)
    kept: dict[str, tuple[Measurement, list[str]]] = {}
    for rule in check.rules:
        for measured in found.steered[rule.task]:
            with check.document.at(*rule.place):
                metric = measured.metric(rule.metric)
            metrics = kept.setdefault(measured.task, (measured, []))[1]
            if metric not in metrics:
                metrics.append(metric)
    return write_baseline(check.baseline, found.subject.identity, kept)


def _verdicts(check: Check, found: Measured, baseline: Baseline | None) -> Iterator[Verdict]:
    for rule in check.rules:
        for number, after in enumerate(found.steered[rule.task]):
            with check.document.at(*rule.place):
                before = None
                if rule.compares and rule.against == "unsteered":
                    before = found.unsteered[rule.task][number]
                elif rule.compares and baseline is not None:
                    before = baseline.of(after.task, after.metric(rule.metric))
                if before is not None:
                    _check_pair(before, after, baseline if rule.against == "baseline" else None)
                yield judge(rule, after, before)


def _check_pair(before: Measurement, after: Measurement, baseline: Baseline | None) -> None:
    try:
        check_comparable(before, after)
    except InputError as error:
        if baseline is None:
            raise
        raise InputError(
            f"{baseline.path} does not fit: {error} Run `lm-eval-trust check --update-baseline` "
            f"and review the file."
        ) from error

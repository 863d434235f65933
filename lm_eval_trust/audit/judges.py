"""How well the judges of an audit's tasks judge, and what their errors do to its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.analysis.comparison import compare
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.audit.measure import Measured, Plan
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.judges.calibration_store import in_words
from lm_eval_trust.judges.correction import corrected_difference, rates_of
from lm_eval_trust.judges.registry import UNMEASURED


@dataclass(frozen=True)
class Corrected:
    """A change of a judged share, as counted and corrected for the judge's errors.

    Attributes:
        metric: The share.
        counted: Steered minus unsteered, by the judge's verdicts.
        corrected: The same of the labels that people would give; ``None`` where nothing is known
            of the judge's errors.
        why: Why there is none.
    """

    metric: str
    counted: Interval
    corrected: Interval | None
    why: str


@dataclass(frozen=True)
class JudgeQuality:
    """A task's judge.

    Attributes:
        task: The task.
        judge: Name of the judge.
        calibration: Its measured quality, in words.
        changes: Changes of the shares that it counts.
    """

    task: str
    judge: str
    calibration: str
    changes: tuple[Corrected, ...]


def judge_quality(plan: Plan, measured: Measured) -> Iterator[JudgeQuality]:
    """Yield the judge of each target that has one."""
    for name, task in plan.targets.tasks.items():
        choice = getattr(task, "judges", None)
        if choice is None:
            continue
        calibration = (task.config.metadata or {}).get(f"{choice.setting}_calibration")
        before, after = (each.measurements[name] for each in (measured.before, measured.after))
        changes = (
            _corrected(metric, share, calibration, before, after)
            for metric, share in choice.scores.items()
            if metric in after.values
        )
        yield JudgeQuality(name, task.judge.name, in_words(calibration), tuple(changes))


def _corrected(
    metric: str, share: str, calibration: Any, before: Measurement, after: Measurement
) -> Corrected:
    rows = [
        row
        for row in zip(before.values[metric], after.values[metric], after.groups, strict=True)
        if all(isinstance(value, float) for value in row[:2])
    ]
    first, second, groups = zip(*rows, strict=True)
    counted = compare(first, second, groups).difference
    if share == UNMEASURED:
        return Corrected(metric, counted, None, "No labelled texts measure it.")
    try:
        found = corrected_difference(first, second, rates_of(calibration, share), groups)
    except InputError as error:
        return Corrected(metric, counted, None, str(error))
    return Corrected(metric, counted, found, "")

"""How well the judges of an audit's tasks judge, and what their errors do to its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.audit.measure import Measured, Plan
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.evaluate.paired_items import compare_items
from lm_eval_trust.gate.check_file import beats_rule
from lm_eval_trust.gate.judge_correction import JudgeCorrection
from lm_eval_trust.gate.paired_test import paired_test
from lm_eval_trust.judges.calibration_store import in_words
from lm_eval_trust.judges.correction import rates_of
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


def judge_quality(plan: Plan, measured: Measured, confidence: float) -> Iterator[JudgeQuality]:
    """Yield the judge of each target that has one.

    Args:
        plan: The tasks.
        measured: What both models gave.
        confidence: Confidence of the intervals.
    """
    for name, task in plan.targets.tasks.items():
        choice = getattr(task, "judges", None)
        if choice is None:
            continue
        calibration = (task.config.metadata or {}).get(f"{choice.setting}_calibration")
        before, after = (each.measurements[name] for each in (measured.before, measured.after))
        changes = tuple(
            change
            for metric, share in choice.scores.items()
            if metric in after.values
            for change in _changes(metric, share, calibration, before, after, confidence)
        )
        yield JudgeQuality(name, task.judge.name, in_words(calibration), changes)


def _changes(
    metric: str,
    share: str,
    calibration: Any,
    before: Measurement,
    after: Measurement,
    confidence: float,
) -> Iterator[Corrected]:
    """Yield the change of a share, corrected as a check corrects it.

    Nothing is yielded if no text has a verdict from both models.
    """
    compared = compare_items(before.items, after.items, metric, confidence=confidence)
    if compared is None:
        return
    counted = compared.difference
    if share == UNMEASURED:
        yield Corrected(metric, counted, None, "No labelled texts measure it.")
        return
    rule = beats_rule(after.task, metric, "unsteered", confidence)
    try:
        steered, unsteered = (rates_of(calibration, share, steered=of) for of in (True, False))
        test = paired_test(rule, metric, before, after)
        correction = JudgeCorrection(steered, unsteered)
        found = correction.of_test(test, rule, before, after).change(confidence)
    except InputError as error:
        yield Corrected(metric, counted, None, str(error))
    else:
        yield Corrected(metric, counted, found, "")

"""Rules on judged scores without the judge's errors (``judge_correction: true``).

Everything is tested as without a correction, on what the judge counted; intervals then go through
:meth:`~lm_eval_trust.judges.correction.ErrorRates.corrected`. A judge shrinks a true change by an
uncertain amount. So power assumes the smallest share of a change that may show, and the largest
share of the change that a rule allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate.check_file import BEATS, RATIOS, Rule
from lm_eval_trust.gate.metrics import MetricItems, items_of
from lm_eval_trust.gate.paired_test import (
    PairedTest,
    common_items,
    own_interval,
    paired_contrast,
    ratio_interval,
)
from lm_eval_trust.judges.calibration_store import stored_calibration
from lm_eval_trust.judges.correction import ErrorRates, difference_apart, has_verdict, rates_of
from lm_eval_trust.judges.registry import UNMEASURED, JudgeChoice


@dataclass(frozen=True)
class JudgeCorrection:
    """Corrects one metric of a judged task.

    Attributes:
        rates: How the judge errs on the checked model's texts.
        unsteered: How it errs on those of an unsteered reference, if the calibration separates
            steered and unsteered texts; otherwise the same.
    """

    rates: ErrorRates
    unsteered: ErrorRates

    def of_reference(self, rule: Rule) -> ErrorRates:
        """Return how the judge errs on the texts of a rule's reference."""
        return self.unsteered if rule.against == "unsteered" else self.rates

    def share(
        self, rates: ErrorRates, found: Measurement, metric: str, confidence: float
    ) -> Interval:
        """Return a model's score without the judge's errors.

        Raises:
            InputError: The judge errs on these texts otherwise than on those of its calibration.
        """
        items = items_of(found, metric)
        assert items is not None
        return _share(rates, items, found, metric, confidence)

    def of_test(
        self, found: PairedTest, rule: Rule, before: Measurement, after: Measurement
    ) -> PairedTest:
        """Return a test of a rule's metric without the judge's errors.

        Raises:
            InputError: As :meth:`share`.
        """
        metric = after.metric(rule.metric)
        items = common_items(metric, before, after)
        rates = self.of_reference(rule), self.rates

        def shares(confidence: float) -> tuple[Interval, Interval]:
            one, other = (
                _share(*each, metric, confidence)
                for each in zip(rates, items, (before, after), strict=True)
            )
            return one, other

        first, second = shares(rule.confidence)
        has = [_judged(each, of, metric) for each, of in zip(items, (before, after), strict=True)]
        by_ratio = rule.kind in RATIOS
        sign = 1 if after.higher_is_better[metric] else -1
        weight = rule.bound if by_ratio else 1.0

        def true(counted: Interval, confidence: float, ratio: float) -> Interval:
            """Return after − ratio · before."""
            if rates[0] != rates[1]:
                return difference_apart(*shares(confidence), ratio=ratio)
            judged = has[1] - ratio * has[0]
            return self.rates.corrected(counted, confidence, judged=judged, within=(-ratio, 1.0))

        def correct(gain: Interval, confidence: float) -> Interval:
            return _signed(true(_signed(gain, sign), confidence, weight), sign)

        def difference(confidence: float) -> Interval:
            return true(paired_contrast(*items).interval(confidence), confidence, 1.0)

        def ratio(confidence: float) -> Interval:
            def left(of: float) -> Interval:
                if rates[0] != rates[1]:
                    return difference_apart(*shares(confidence), ratio=of)
                counted = paired_contrast(*items, ratio=of).interval(confidence)
                judged = has[1] - of * has[0]
                return self.rates.unexplained(counted, 0.0, confidence, judged)

            return ratio_interval(second.mean / first.mean, left)

        shrink = self.rates.informedness_interval(rule.confidence)
        least, most = max(0.0, shrink.low), min(1.0, shrink.high)
        falling = (sign > 0) != (rule.kind in ("min_gain", BEATS))
        room = first.mean if falling else 1 - first.mean
        corrected = replace(
            found,
            correct=correct,
            shrink=(least, most),
            possible=room * self.rates.informedness,
            change=difference,
            allowed=found.allowed * most,
            display=lambda loss: loss / least if least else math.inf,
            size=lambda loss: loss * least,
            is_ratio=by_ratio and first.mean > 0,
        )
        if not by_ratio:
            return corrected
        if first.mean == 0:
            return replace(corrected, allowed=0.0, size=lambda loss: math.inf)
        return replace(
            corrected,
            change=ratio,
            allowed=sign * (1 - rule.bound) * first.mean * most,
            display=lambda loss: 1 - sign * loss / first.mean / least if least else math.inf,
            size=lambda of: sign * (1 - of) * first.mean * least,
        )


def _share(
    rates: ErrorRates, items: MetricItems, found: Measurement, metric: str, confidence: float
) -> Interval:
    counted = own_interval(items, confidence)
    return rates.corrected(counted, confidence, judged=_judged(items, found, metric))


def correction_of(task: Any, metric: str, *, steered: bool) -> JudgeCorrection | None:
    """Return what corrects a metric; ``None`` if it is no share of a judge's verdicts.

    Args:
        task: The loaded task.
        metric: Its name, without a filter.
        steered: Whether the checked model is steered.

    Raises:
        InputError: The metric cannot be corrected, or the judge is not calibrated.
    """
    judges: JudgeChoice[Any] | None = getattr(task, "judges", None)
    scores: Mapping[str, str] = judges.scores if judges else {}
    by_category = any(metric.startswith(f"{name}_") for name in scores)
    share = scores.get(metric, UNMEASURED if by_category else "")
    if judges is None or not share:
        return None
    if share == UNMEASURED:
        able = [name for name, of in scores.items() if of != UNMEASURED]
        raise InputError(
            f"{metric} of {task.config.task} cannot be corrected for the judge's errors, which are "
            f"measured for {' and '.join(able)} of the whole task; hold that, or leave "
            f"judge_correction out."
        )
    calibration = stored_calibration(judges.setting, task.judge_fingerprint)
    return JudgeCorrection(*(rates_of(calibration, share, steered=of) for of in (steered, False)))


def unparsed_beside(metric: str) -> str:
    """Return the metric that says which items lack a verdict, after the same filter."""
    return ",".join(["judge_unparsed", *metric.split(",")[1:]])


def _judged(items: MetricItems, found: Measurement, metric: str) -> float:
    """Return the share of items that have a verdict."""
    name = unparsed_beside(metric)
    if name not in found.values:
        raise InputError(
            f"The measurement of {found.task} lacks {name}, which the correction for the judge's "
            f"errors needs. Measure again; a baseline with `lm-eval-trust check --update-baseline`."
        )
    unparsed = dict(zip(found.ids, found.values[name], strict=True))
    verdicts = [
        has_verdict(value, float(unparsed[item] or 0.0))  # type: ignore[arg-type]
        for item, value in zip(items.ids, items.values, strict=True)
    ]
    return sum(verdicts) / len(verdicts)


def _signed(found: Interval, sign: int) -> Interval:
    """Return an interval, or that of the negative."""
    return found if sign > 0 else Interval(-found.mean, -found.high, -found.low)

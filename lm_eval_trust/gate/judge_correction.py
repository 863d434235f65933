"""Rules on judged scores without the judge's errors (``judge_correction: true``).

Everything is tested as without a correction, on what the judge counted; intervals then go through
:meth:`~lm_eval_trust.judges.correction.ErrorRates.corrected`. A judge shrinks a true change by an
uncertain amount. So power assumes the smallest share of a change that may show, and the largest
share of the change that a rule allows. If the error rates on the two models' texts differ, both
shares are corrected apart, and power follows from both intervals, calibrations included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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
from lm_eval_trust.gate.power import Design
from lm_eval_trust.judges.calibration_store import stored_calibration
from lm_eval_trust.judges.correction import (
    JUDGED,
    ErrorRates,
    JudgedShares,
    difference_apart,
    rates_of,
)
from lm_eval_trust.judges.registry import UNMEASURED, JudgeChoice

#: References that the unsteered model writes: itself, and with a prompt or examples instead.
_UNSTEERED = ("unsteered", "prompt", "few-shot")


@dataclass(frozen=True)
class JudgeCorrection:
    """Corrects one metric of a judged task.

    Attributes:
        rates: How the judge errs on the checked model's texts.
        unsteered: How it errs on those of the unsteered model, with a prompt or without, if the
            calibration separates steered and unsteered texts; otherwise the same.
    """

    rates: ErrorRates
    unsteered: ErrorRates

    def of_reference(self, rule: Rule) -> ErrorRates:
        """Return how the judge errs on the texts of a rule's reference."""
        return self.unsteered if rule.against.partition(":")[0] in _UNSTEERED else self.rates

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
        by_ratio, apart = rule.kind in RATIOS, rates[0] != rates[1]
        sign = 1 if after.higher_is_better[metric] else -1
        weight = rule.bound if by_ratio else 1.0

        def true(counted: Interval, confidence: float, ratio: float) -> Interval:
            """Return after − ratio · before."""
            if apart:
                return difference_apart(*shares(confidence), ratio=ratio)
            texts = has[1].less(has[0], ratio)
            return self.rates.corrected(counted, confidence, texts=texts, within=(-ratio, 1.0))

        def correct(gain: Interval, confidence: float) -> Interval:
            return _signed(true(_signed(gain, sign), confidence, weight), sign)

        def difference(confidence: float) -> Interval:
            return true(paired_contrast(*items).interval(confidence), confidence, 1.0)

        def ratio(confidence: float) -> Interval:
            def left(of: float) -> Interval:
                if apart:
                    return difference_apart(*shares(confidence), ratio=of)
                counted = paired_contrast(*items, ratio=of).interval(confidence)
                return self.rates.unexplained(counted, 0.0, confidence, has[1].less(has[0], of))

            # Estimates beyond 0 or 1 are clipped, what is tested is not.
            one, other = (
                (first.mean, second.mean)
                if apart
                else (
                    self.rates.estimate(each.mean, of) for each, of in zip(items, has, strict=True)
                )
            )
            tested = ratio_interval(max(0.0, other / one), left)
            shown = min(max(second.mean / first.mean, tested.low), tested.high)
            return Interval(shown, tested.low, tested.high)

        def design(confidence: float) -> Design:
            one, other = shares(confidence)
            own = [
                _half(own_interval(each, confidence)) / of.informedness
                for each, of in zip(items, rates, strict=True)
            ]
            return Design.of_halves(
                found.gain,
                math.hypot(weight * own[0], own[1]),
                math.hypot(weight * _half(one), _half(other)),
                confidence,
            )

        shrink = self.rates.informedness_interval(rule.confidence)
        # Shares that are each corrected show a true change as it is.
        least, most = (1.0, 1.0) if apart else (max(0.0, shrink.low), min(1.0, shrink.high))
        falling = (sign > 0) != (rule.kind in ("min_gain", BEATS))
        room = first.mean if falling else 1 - first.mean
        corrected = replace(
            found,
            correct=correct,
            shrink=(least, most),
            possible=room * (1.0 if apart else self.rates.informedness),
            design=design if apart else None,
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


def _half(found: Interval) -> float:
    """Return the distance of the farther end."""
    return max(found.mean - found.low, found.high - found.mean)


def _share(
    rates: ErrorRates, items: MetricItems, found: Measurement, metric: str, confidence: float
) -> Interval:
    counted = own_interval(items, confidence)
    return rates.corrected(counted, confidence, texts=_judged(items, found, metric))


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


def judged_beside(metric: str) -> str:
    """Return the metric that says on which items the judge may err, after the same filter."""
    return ",".join([JUDGED, *metric.split(",")[1:]])


def _judged(items: MetricItems, found: Measurement, metric: str) -> JudgedShares:
    """Return on which items the judge may err."""
    name = judged_beside(metric)
    if name not in found.values:
        raise InputError(
            f"The measurement of {found.task} lacks {name}, which the correction for the judge's "
            f"errors needs. Measure again; a baseline with `lm-eval-trust check --update-baseline`."
        )
    judged = dict(zip(found.ids, found.values[name], strict=True))
    return JudgedShares.of(items.values, np.array([judged[item] for item in items.ids], float))


def _signed(found: Interval, sign: int) -> Interval:
    """Return an interval, or that of the negative."""
    return found if sign > 0 else Interval(-found.mean, -found.high, -found.low)

"""A rule's comparison in one direction: gains are positive, whatever the metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from lm_eval_trust.analysis.comparison import PairedDifferences
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.gate.intervals import Contrast
from lm_eval_trust.gate.measurement import Measurement
from lm_eval_trust.gate.metrics import SCALES, Items, exp, items_of, paired_contrast
from lm_eval_trust.gate.rules import Rule
from lm_eval_trust.gate.spec import RATIOS


@dataclass(frozen=True)
class Comparison:
    """Two models on one metric, as a rule looks at them.

    Attributes:
        gain: What is tested; where the two agree on all items it is ``gain.agreement``.
        threshold: The gain that the rule asks for; below zero where a loss is allowed.
        possible: Largest loss that there can be; for ``min_gain`` the largest gain.
        items: How many items both have a value of.
        change: Confidence → difference or ratio of the metric, with its interval.
        display: Size of a loss or gain → the same in the units of the rule's bound.
        size: A bound in its units → size of the loss that it stands for.
        is_ratio: Whether changes are told as ratios.
    """

    gain: Contrast
    threshold: float
    possible: float
    items: int
    change: Callable[[float], Interval]
    display: Callable[[float], float]
    size: Callable[[float], float]
    is_ratio: bool = False

    def wanted(self, rule: Rule) -> float:
        """Return the loss that the items have to be able to show; infinite if none is asked for.

        By default it is twice the allowed one.
        """
        if rule.detect is not None:
            return self.size(rule.detect)
        allowed = self.gain.agreement - self.threshold
        return 2 * allowed if allowed > 0 else math.inf


def compare(rule: Rule, metric: str, before: Measurement, after: Measurement) -> Comparison:
    """Return the comparison that a rule asks for.

    Args:
        rule: It compares.
        metric: Full name of the metric.
        before: The reference.
        after: The checked model.

    Raises:
        InputError: The metric cannot be compared in this way, or the items differ.
    """
    aggregation, better = after.aggregations[metric], after.higher_is_better.get(metric)
    check_kind(rule.kind, after.task, metric, aggregation, better)
    items = _common_items(metric, before, after)
    if SCALES[aggregation].multiplicative:
        return _by_perplexity(rule, *items)
    if rule.kind in RATIOS:
        return _by_ratio(rule, metric, *items, bool(better))
    return _by_difference(rule, *items, bool(better))


def check_kind(
    kind: str, task: str, metric: str, aggregation: str, higher_is_better: bool | None
) -> None:
    """Raise unless a metric can be compared in the way of a kind of rule.

    Args:
        kind: Of a rule that compares.
        task: For messages, as ``metric``.
        metric: Its name.
        aggregation: Name of its aggregation.
        higher_is_better: Its direction; ``None`` where the task does not tell it.

    Raises:
        InputError: It cannot.
    """
    scale = SCALES.get(aggregation)
    if scale is None:
        raise _no_mean(task, metric)
    if higher_is_better is None:
        raise InputError(f"{task} does not tell whether {metric} is better when higher.")
    if scale.multiplicative and kind != "max_ratio":
        raise InputError(f"{metric} is compared by its ratio; use max_ratio, or max.")
    fitting, which = ("min_ratio", "higher") if higher_is_better else ("max_ratio", "lower")
    if not scale.multiplicative and kind in RATIOS and kind != fitting:
        raise InputError(f"{metric} is better when {which}; its ratio is held by {fitting}.")


def _no_mean(task: str, metric: str) -> InputError:
    return InputError(
        f"{metric} of {task} is no mean over items, so it cannot be compared item by item; "
        f"use min or max."
    )


def _common_items(metric: str, before: Measurement, after: Measurement) -> tuple[Items, Items]:
    first, second = items_of(before, metric), items_of(after, metric)
    if first is None or second is None:
        raise _no_mean(after.task, metric)
    common = frozenset(first.ids) & frozenset(second.ids)
    if not common:
        raise InputError(f"No item of {after.task} has a value of {metric} from both models.")
    return first.only(common), second.only(common)


def _by_difference(rule: Rule, before: Items, after: Items, higher_is_better: bool) -> Comparison:
    raw = paired_contrast(before, after)
    gains = rule.kind == "min_gain"
    return Comparison(
        gain=raw if higher_is_better else _flipped(raw),
        threshold=rule.bound if gains else -rule.bound,
        possible=_possible(before, after, falling=higher_is_better != gains),
        items=len(before.ids),
        change=raw.interval,
        display=float,
        size=float,
    )


def _by_ratio(
    rule: Rule, metric: str, before: Items, after: Items, higher_is_better: bool
) -> Comparison:
    """Test ``after − ratio · before``: the way of Fieller (1954), which needs no logarithm."""
    if min(before.values.min(), after.values.min()) < 0:
        raise InputError(f"{metric} has values below zero, whose ratio says nothing; use max_drop.")
    raw = paired_contrast(before, after, ratio=rule.bound)
    sign = -1 if higher_is_better else 1
    found = Comparison(
        gain=raw if higher_is_better else _flipped(raw),
        threshold=0.0,
        possible=_possible(before, after, falling=higher_is_better),
        items=len(before.ids),
        change=lambda confidence: _ratio_interval(before, after, confidence),
        display=lambda loss: 1 + sign * loss / before.mean,
        size=lambda ratio: sign * (ratio - 1) * before.mean,
        is_ratio=True,
    )
    if before.mean > 0:
        return found
    # Nothing is a multiple of zero, but that a rate was zero and no longer is can be tested.
    plain = paired_contrast(before, after)
    return replace(
        found,
        change=plain.interval,
        display=float,
        size=lambda ratio: math.inf,
        is_ratio=False,
    )


def _by_perplexity(rule: Rule, before: Items, after: Items) -> Comparison:
    gain = paired_contrast(before, after)

    def change(confidence: float) -> Interval:
        found = gain.interval(confidence)
        return Interval(exp(-found.mean), exp(-found.high), exp(-found.low))

    return Comparison(
        gain=gain,
        threshold=-math.log(rule.bound),
        possible=math.inf,
        items=len(before.ids),
        change=change,
        display=exp,
        size=math.log,
        is_ratio=True,
    )


def _flipped(contrast: Contrast) -> Contrast:
    sums = PairedDifferences(-contrast.sums.sums, contrast.sums.sizes)
    return replace(contrast, sums=sums, agreement=-contrast.agreement)


def _possible(before: Items, after: Items, *, falling: bool) -> float:
    """Return how far a metric between 0 and 1 can fall, or rise; infinite for others."""
    values = np.concatenate([before.values, after.values])
    if values.min() < 0 or values.max() > 1:
        return math.inf
    return before.mean if falling else 1 - before.mean


def _ratio_interval(before: Items, after: Items, confidence: float) -> Interval:
    """Return the ratio with all ratios that are not excluded: the tests turned round."""

    def end(name: str) -> Callable[[float], float]:
        def of(ratio: float) -> float:
            found = paired_contrast(before, after, ratio=ratio).interval(confidence)
            return float(getattr(found, name))

        return of

    ratio = after.mean / before.mean
    beyond = (max(ratio, 1.0) * 4**k for k in range(1, 8))
    outside = next((each for each in beyond if end("high")(each) < 0), None)
    low = optimize.brentq(end("low"), 0.0, ratio) if end("low")(0.0) > 0 else 0.0
    high = math.inf if outside is None else optimize.brentq(end("high"), ratio, outside)
    return Interval(ratio, float(low), float(high))

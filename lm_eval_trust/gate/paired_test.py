"""Paired tests of a rule, and confidence intervals that hold on few items.

Items come in groups that stand or fall together; a mean over items is a ratio of sums over groups.
Its interval is that of :class:`~lm_eval_trust.analysis.statistics.GroupTotals`. A metric that
moves in steps (right or wrong) cannot have another mean without items that differ, so no
hypothetical mean is tested with less variance than those items imply if whole groups change
together. That is Wilson's score interval (1927), and Tango's (1998) if the two models agree on all
items. There, and if all items change alike, the plain standard error is zero and would claim
certainty.

Gains are positive, whatever the metric: those of metrics that are better when lower are negated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import optimize

from lm_eval_trust.analysis.statistics import GroupTotals, Interval, mean_interval, step_of
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate.check_file import BEATS, RATIOS, Rule
from lm_eval_trust.gate.metrics import SCALES, Array, MetricItems, exp, items_of

if TYPE_CHECKING:
    from lm_eval_trust.gate.power import Design


@dataclass(frozen=True)
class Contrast:
    """The quantity that is tested: a mean over items, and how it can change.

    Attributes:
        sums: Group sums and sizes (items, or words).
        step: Smallest amount by which one item can differ; 0 if it can differ by any.
        reach: Largest amount by which one item is expected to differ.
        agreement: The mean if no item differs.
        differences: By how much items differ, if they differ by the step or not at all, in either
            direction; ``None`` of other values. They are the sums themselves, unless a ratio is
            tested.
    """

    sums: GroupTotals
    step: float = 0.0
    reach: float = 0.0
    agreement: float = 0.0
    differences: GroupTotals | None = None

    @property
    def mean(self) -> float:
        """The estimate."""
        return self.sums.mean

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.sums.groups

    @property
    def in_steps(self) -> bool:
        """Whether an item that differs does so by the step."""
        return self.step == self.reach > 0

    @property
    def standard_error(self) -> float:
        """Of the mean; infinite for a single group, which says nothing about others."""
        error = self.sums.standard_error
        return math.inf if math.isnan(error) else error

    @property
    def effective_items(self) -> float:
        """Effective number of items if those of a group always change together (Kish)."""
        return self.sums.whole_groups

    def quantile(self, probability: float) -> float:
        """Return the quantile of Student's t; see :meth:`GroupTotals.quantile`."""
        return self.sums.quantile(probability)

    def width(self, confidence: float) -> float:
        """Return how many standard errors the interval's farther end is from the mean."""
        quantile = self.quantile((1 + confidence) / 2)
        if self.in_steps or not 0 < self.standard_error < math.inf:
            return quantile
        found = self.sums.interval(confidence)
        return max(found.mean - found.low, found.high - found.mean) / self.standard_error

    def interval(self, confidence: float) -> Interval:
        """Return the mean with its two-sided interval."""
        quantile = self.quantile((1 + confidence) / 2)
        if math.isinf(self.standard_error):
            return Interval(self.mean, -math.inf, math.inf)
        plain = self.sums.interval(confidence, skewed=not self.in_steps)
        change = self.mean - self.agreement
        ends = [plain.low, plain.high]
        for sign in (-1, 1):
            ends += [self.agreement + sign * x for x in self._changes(sign * change, quantile)]
        if self.differences is not None:
            # Items that change both ways, more in one direction, are skewed: Student's interval
            # alone has its farther end too near.
            found = self.differences.score_ends(quantile, self.effective_items, self.step)
            ends += [self.mean - self.differences.mean + end for end in found]
        return Interval(self.mean, min(ends), max(ends))

    def _changes(self, change: float, quantile: float) -> tuple[float, float]:
        """Return the smallest and the largest change that are compatible with the observed one.

        They solve (x − change)² = quantile² (step·x − x²) / items for x ≥ 0; without a solution,
        both are the observed change.
        """
        share = quantile**2 / self.effective_items
        middle = 2 * change + share * self.step
        root = middle**2 - 4 * (1 + share) * change**2
        if root < 0 or middle <= 0:
            return change, change
        apart, twice = math.sqrt(root), 2 * (1 + share)
        return (middle - apart) / twice, (middle + apart) / twice


def steps_of(*series: npt.ArrayLike) -> tuple[float, float]:
    """Return the smallest and the largest amount by which an item of a metric can differ.

    Yes-or-no metrics move by 1, even if all items happen to be right. For others the smallest
    amount is the smallest gap between values that occur, the largest their range. For few items
    that differ, see :func:`~lm_eval_trust.analysis.statistics.step_of`.
    """
    values = np.unique(np.concatenate([np.asarray(each, dtype=np.float64) for each in series]))
    if np.isin(values, (0.0, 1.0)).all():
        return 1.0, 1.0
    if len(values) < 2:
        return 0.0, 0.0
    return float(np.diff(values).min()), float(values[-1] - values[0])


def own_interval(items: MetricItems, confidence: float) -> Interval:
    """Return the mean of one model's items with its interval; that of shares is within 0 and 1."""
    sums = _grouped(items.values, items)
    if (items.weights != 1).any():
        return Contrast(sums).interval(confidence)
    low, high = -math.inf, math.inf
    if sums.groups > 1:
        low, high = mean_interval(items.values, items.groups, confidence)
    if items.values.min() >= 0 and items.values.max() <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return Interval(sums.mean, low, high)


def paired_contrast(before: MetricItems, after: MetricItems, *, ratio: float = 1.0) -> Contrast:
    """Return the mean of ``after − ratio · before`` over the same items.

    Raises:
        InputError: The items, their groups or their weights differ.
    """
    if before.ids != after.ids or before.groups != after.groups:
        raise InputError("The two evaluations hold different items; evaluate both on the same.")
    if not np.array_equal(before.weights, after.weights):
        raise InputError("The two evaluations count the words of the same items differently.")
    sums = _grouped(after.values - ratio * before.values, before)
    found = Contrast(sums, agreement=(1 - ratio) * before.mean)
    if (before.weights != 1).any():
        return found
    differences = _grouped(after.values - before.values, before)
    if step := step_of(differences, before.values, after.values):
        return replace(found, step=step, reach=step, differences=differences)
    step, reach = steps_of(before.values, after.values)
    return replace(found, step=step, reach=reach)


def _grouped(values: Array, items: MetricItems) -> GroupTotals:
    return GroupTotals.of(values, items.groups, weights=items.weights)


@dataclass(frozen=True)
class PairedTest:
    """Two models compared on one metric, in the way that a rule asks for.

    Attributes:
        gain: The tested quantity; if the two agree on all items it is ``gain.agreement``.
        threshold: Gain that the rule demands; negative if it allows a loss.
        allowed: Loss that the rule allows, from ``gain.agreement``.
        possible: Largest possible loss; for ``min_gain`` the largest possible gain.
        items: Number of items with a value from both models.
        change: Confidence → difference or ratio of the metric, with its interval.
        display: Size of a loss or gain → the same in the units of the rule's bound.
        size: A bound in its units → size of the loss that it stands for.
        is_ratio: Whether changes are reported as ratios.
        design: Confidence → what the items can show, where it doesn't follow from the gain.
        correct: Interval of the gain, confidence → the same without a judge's errors.
        shrink: Least and largest share of a true change that a judge lets be seen.
    """

    gain: Contrast
    threshold: float
    allowed: float
    possible: float
    items: int
    change: Callable[[float], Interval]
    display: Callable[[float], float]
    size: Callable[[float], float]
    is_ratio: bool = False
    design: Callable[[float], Design] | None = None
    correct: Callable[[Interval, float], Interval] = lambda gain, _: gain
    shrink: tuple[float, float] = (1.0, 1.0)

    def wanted(self, rule: Rule) -> float:
        """Return the loss that the items have to be able to show, by default twice the allowed one.

        It is infinite if nothing says how much that is.
        """
        if rule.detect is not None:
            return self.size(rule.detect)
        least, most = self.shrink
        return 2 * self.allowed * least / most if self.allowed > 0 else math.inf


def paired_test(rule: Rule, metric: str, before: Measurement, after: Measurement) -> PairedTest:
    """Return the test of a rule that compares with a reference.

    Args:
        rule: The rule.
        metric: Full name of the metric.
        before: The reference.
        after: The checked model.

    Raises:
        InputError: The metric cannot be compared in this way, or the items differ.
    """
    aggregation, better = after.aggregations[metric], after.higher_is_better.get(metric)
    check_kind(rule.kind, after.task, metric, aggregation, better)
    items = common_items(metric, before, after)
    if SCALES[aggregation].multiplicative:
        return _by_perplexity(rule, *items)
    if rule.kind in RATIOS:
        return _by_ratio(rule, metric, *items, bool(better))
    return _by_difference(rule, *items, bool(better))


def check_kind(
    kind: str, task: str, metric: str, aggregation: str, higher_is_better: bool | None
) -> None:
    """Raise unless a kind of rule applies to a metric.

    Args:
        kind: Kind of a rule that compares with a reference.
        task: The task, for messages.
        metric: The metric, for messages.
        aggregation: Name of the metric's aggregation.
        higher_is_better: Its direction; ``None`` if the task does not declare it.

    Raises:
        InputError: It does not; the message names one that does.
    """
    if higher_is_better is None:
        raise InputError(
            f"{task} does not declare whether higher {metric} is better; its ideal may lie in "
            f"between. Hold it by min and max."
        )
    scale = SCALES.get(aggregation)
    if scale is None:
        raise _no_mean(task, metric)
    if scale.multiplicative and kind != "max_ratio":
        raise InputError(f"{metric} is compared by its ratio; use max_ratio, or max.")
    fitting, which = ("min_ratio", "higher") if higher_is_better else ("max_ratio", "lower")
    if not scale.multiplicative and kind in RATIOS and kind != fitting:
        raise InputError(f"{metric} is better when {which}; its ratio is held by {fitting}.")


def _no_mean(task: str, metric: str) -> InputError:
    return InputError(
        f"{metric} of {task} is not a mean over items, so it cannot be compared item by item; "
        f"use min or max."
    )


def common_items(
    metric: str, before: Measurement, after: Measurement
) -> tuple[MetricItems, MetricItems]:
    """Return the items that have a value of a metric under both models, in the same order.

    Raises:
        InputError: There is none, or the metric is not a mean over items.
    """
    first, second = items_of(before, metric), items_of(after, metric)
    if first is None or second is None:
        raise _no_mean(after.task, metric)
    common = frozenset(first.ids) & frozenset(second.ids)
    if not common:
        raise InputError(f"No item of {after.task} has a value of {metric} from both models.")
    return first.only(common), second.only(common)


def _by_difference(
    rule: Rule, before: MetricItems, after: MetricItems, higher_is_better: bool
) -> PairedTest:
    raw = paired_contrast(before, after)
    gains = rule.kind in ("min_gain", BEATS)
    return PairedTest(
        gain=raw if higher_is_better else _flipped(raw),
        threshold=rule.bound if gains else -rule.bound,
        allowed=-rule.bound if gains else rule.bound,
        possible=_possible(before, after, falling=higher_is_better != gains),
        items=len(before.ids),
        change=raw.interval,
        display=float,
        size=float,
    )


def _by_ratio(
    rule: Rule, metric: str, before: MetricItems, after: MetricItems, higher_is_better: bool
) -> PairedTest:
    """Test ``after − ratio · before`` item by item (Fieller 1954), which needs no logarithm."""
    if min(before.values.min(), after.values.min()) < 0:
        raise InputError(
            f"{metric} has values below zero, whose ratio means nothing; use max_drop."
        )
    raw = paired_contrast(before, after, ratio=rule.bound)
    sign = -1 if higher_is_better else 1
    gain = raw if higher_is_better else _flipped(raw)
    found = PairedTest(
        gain=gain,
        threshold=0.0,
        allowed=gain.agreement,
        possible=_possible(before, after, falling=higher_is_better),
        items=len(before.ids),
        change=lambda confidence: ratio_interval(
            after.mean / before.mean,
            lambda ratio: paired_contrast(before, after, ratio=ratio).interval(confidence),
        ),
        display=lambda loss: 1 + sign * loss / before.mean,
        size=lambda ratio: sign * (ratio - 1) * before.mean,
        is_ratio=True,
    )
    if before.mean > 0:
        return found
    # A reference of zero has no ratio, so the difference from it is tested.
    plain = paired_contrast(before, after)
    return replace(
        found,
        change=plain.interval,
        display=float,
        size=lambda ratio: math.inf,
        is_ratio=False,
    )


def _by_perplexity(rule: Rule, before: MetricItems, after: MetricItems) -> PairedTest:
    gain = paired_contrast(before, after)

    def change(confidence: float) -> Interval:
        found = gain.interval(confidence)
        return Interval(exp(-found.mean), exp(-found.high), exp(-found.low))

    return PairedTest(
        gain=gain,
        threshold=-math.log(rule.bound),
        allowed=math.log(rule.bound),
        possible=math.inf,
        items=len(before.ids),
        change=change,
        display=exp,
        size=math.log,
        is_ratio=True,
    )


def _flipped(contrast: Contrast) -> Contrast:
    differences = contrast.differences
    return replace(
        contrast,
        sums=_negative(contrast.sums),
        agreement=-contrast.agreement,
        differences=None if differences is None else _negative(differences),
    )


def _negative(totals: GroupTotals) -> GroupTotals:
    return GroupTotals(-totals.sums, totals.sizes)


def _possible(before: MetricItems, after: MetricItems, *, falling: bool) -> float:
    """Return how far a metric can fall that is at least 0, or rise that is also at most 1."""
    values = np.concatenate([before.values, after.values])
    if values.min() < 0 or (not falling and values.max() > 1):
        return math.inf
    return before.mean if falling else 1 - before.mean


def ratio_interval(ratio: float, tested: Callable[[float], Interval]) -> Interval:
    """Return a ratio, with the interval of all ratios that a test does not reject.

    Args:
        ratio: The estimate.
        tested: Ratio → interval of ``after − ratio · before``.
    """
    beyond = (max(ratio, 1.0) * 4**k for k in range(1, 8))
    outside = next((each for each in beyond if tested(each).high < 0), None)
    # If all items change alike, the interval at the estimate is a point, which may miss 0 by
    # rounding.
    at, low, high = tested(ratio), 0.0, math.inf
    if tested(0.0).low > 0:
        within = at.low < 0
        low = float(optimize.brentq(lambda r: tested(r).low, 0.0, ratio)) if within else ratio
    if outside is not None:
        within = at.high > 0
        high = float(optimize.brentq(lambda r: tested(r).high, ratio, outside)) if within else ratio
    return Interval(ratio, low, high)

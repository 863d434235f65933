"""Verdicts: what the data show about a rule, and what they could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lm_eval_trust.analysis.effects import Effects
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.controls import AgainstRandom, against_random, smallest_step
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.evaluate.paired_items import values_of
from lm_eval_trust.gate.check_file import BEATS, TO_BE_SHOWN, Rule
from lm_eval_trust.gate.judge_correction import JudgeCorrection
from lm_eval_trust.gate.metrics import SCALES, items_of
from lm_eval_trust.gate.paired_test import (
    PairedTest,
    common_items,
    own_interval,
    paired_test,
)
from lm_eval_trust.gate.power import Design

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"


@dataclass(frozen=True)
class Power:
    """What the items of a rule can show, in the units of its bound.

    Attributes:
        smallest: Smallest drop, gain, margin or ratio that they show in 975 of 1000 cases; ``None``
            if that exceeds every possible one.
        wanted: What they have to be able to show; ``None`` if nothing says how much that is.
        needed: Groups of items that would show it; ``None`` if no number would.
        suffices: Whether they can show it.
    """

    smallest: float | None
    wanted: float | None
    needed: int | None
    suffices: bool


@dataclass(frozen=True)
class RuleVerdict:
    """The verdict on a rule for one task.

    Attributes:
        rule: The rule.
        task: The task.
        outcome: ``passed``, ``failed`` or ``inconclusive``.
        value: The metric.
        interval: Its own interval; ``None`` if it is not a mean over items.
        reference: The reference's metric.
        change: Difference from it, or ratio to it, with the interval that decides.
        is_ratio: Whether the change is a ratio.
        power: What the items can show; ``None`` for bounds on the metric itself.
        items: Number of items that decide.
        groups: Number of groups that they are in.
        raw: The metric, and the reference's or ``None``, as the judge counted them, where value,
            reference and change are corrected for its errors; otherwise ``None``.
        nonfinite: Number of items whose log-likelihoods or scores are not finite, under either
            model.
        random: For ``beats random:K``, how many directions are beaten.
        doubt: Why the metric means nothing, which fails every rule: such items, or none that has
            a value.
    """

    rule: Rule
    task: str
    outcome: str
    value: float
    interval: Interval | None = None
    reference: float | None = None
    change: Interval | None = None
    is_ratio: bool = False
    power: Power | None = None
    items: int = 0
    groups: int = 0
    raw: tuple[float, float | None] | None = None
    nonfinite: int = 0
    random: AgainstRandom | None = None
    doubt: str = ""

    @property
    def fails_check(self) -> bool:
        """Whether it fails the check."""
        return self.outcome == FAILED or (self.outcome == INCONCLUSIVE and self.rule.strict)


@dataclass(frozen=True)
class Moved:
    """What a steering does to the items of a task.

    Attributes:
        task: The task.
        metric: The metric.
        effects: Effects of all items, then of each category.
    """

    task: str
    metric: str
    effects: tuple[Effects, ...]

    @property
    def sentence(self) -> str:
        """What it does to all items, in words."""
        return f"{self.task} {self.metric}: it {self.effects[0].sentence}"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        path: Its file.
        verdicts: One for each rule and task.
        moved: What the steering does to single items, for each task and metric of a rule that has
            the unsteered model as well.
    """

    path: Path
    verdicts: tuple[RuleVerdict, ...]
    moved: tuple[Moved, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no verdict fails it."""
        return not any(verdict.fails_check for verdict in self.verdicts)


def decide(
    rule: Rule,
    after: Measurement,
    before: Measurement | None,
    correction: JudgeCorrection | None = None,
) -> RuleVerdict:
    """Return the verdict on a rule.

    Args:
        rule: The rule.
        after: Measurement of the checked model.
        before: Measurement of the reference; needed if the rule compares.
        correction: Takes a judge's errors out of the metric.

    Raises:
        InputError: There is no such metric, the rule does not apply to it, the two
            measurements hold different items, or the correction does not fit them.
    """
    metric = after.metric(rule.metric)
    measured = [found for found in (after, before) if found is not None]
    if doubt := _doubt(metric, *measured):
        return RuleVerdict(
            rule,
            after.task,
            FAILED,
            after.scores[metric],
            reference=None if before is None else before.scores[metric],
            items=len(after.ids),
            groups=len(set(after.groups)),
            nonfinite=max(found.broken(metric) for found in measured),
            doubt=doubt,
        )
    if rule.compares:
        assert before is not None
        found = paired_test(rule, metric, before, after)
        if correction is None:
            return _decide_change(rule, found, after, before, metric)
        found = correction.of_test(found, rule, before, after)
        verdict = _decide_change(rule, found, after, before, metric)
        sides = ((correction.rates, after), (correction.of_reference(rule), before))
        value, reference = (correction.share(*side, metric, rule.confidence).mean for side in sides)
        return replace(
            verdict, value=value, reference=reference, raw=(verdict.value, verdict.reference)
        )
    value = after.scores[metric]
    items = items_of(after, metric)
    interval, groups, raw = None, len(set(after.groups)), None
    if correction is not None:
        interval = correction.share(correction.rates, after, metric, rule.confidence)
        value, raw = interval.mean, (value, None)
    elif items is not None:
        scale = SCALES[after.aggregations[metric]]
        interval = scale.interval(own_interval(items, rule.confidence))
    holds = value >= rule.bound if rule.kind == "min" else value <= rule.bound
    return RuleVerdict(
        rule,
        after.task,
        PASSED if holds else FAILED,
        value,
        interval,
        items=len(items.ids) if items else len(after.ids),
        groups=groups,
        raw=raw,
    )


def decide_random(
    rule: Rule, after: Measurement, arms: Sequence[Measurement], *, tried: int = 1
) -> RuleVerdict:
    """Return the verdict on a steering compared with random directions of the same length.

    The change is from the arms' mean, with the prediction interval of one more direction.

    Args:
        rule: ``beats random:K``.
        after: Measurement of the checked model.
        arms: Measurements of the K directions.
        tried: Configurations that the checked one was chosen from.

    Raises:
        InputError: As :func:`decide`.
    """
    metric = after.metric(rule.metric)
    value, values = after.scores[metric], [arm.scores[metric] for arm in arms]
    middle = sum(values) / len(values)
    found = RuleVerdict(
        rule,
        after.task,
        FAILED,
        value,
        reference=middle,
        items=len(after.ids),
        groups=len(set(after.groups)),
        nonfinite=max(each.broken(metric) for each in (after, *arms)),
        doubt=_doubt(metric, after, *arms),
    )
    if found.doubt:
        return found
    items = common_items(metric, arms[0], after)[0]
    sign = 1 if after.higher_is_better.get(metric) else -1
    step = smallest_step(
        values_of(after.items, metric), [values_of(arm.items, metric) for arm in arms]
    )
    beside = against_random(sign * value, [sign * each for each in values], tried=tried, step=step)
    half = beside.reach(rule.confidence)
    outcome = (
        PASSED if beside.is_more else FAILED if sign * value <= sign * middle else INCONCLUSIVE
    )
    change = Interval(value - middle, value - middle - half, value - middle + half)
    return replace(
        found,
        outcome=outcome,
        change=change,
        random=beside,
        items=len(items.ids),
        groups=len(set(items.groups)),
    )


def _doubt(metric: str, *measured: Measurement) -> str:
    """Return why a metric means nothing in the first measurement in which it does not."""
    return next(filter(None, (found.doubt(metric) for found in measured)), "")


def _decide_change(
    rule: Rule, found: PairedTest, after: Measurement, before: Measurement, metric: str
) -> RuleVerdict:
    gain = found.correct(found.gain.interval(rule.confidence), rule.confidence)
    power = _power(rule, found)
    return RuleVerdict(
        rule,
        after.task,
        _outcome(rule, gain, found.threshold, power),
        after.scores[metric],
        reference=before.scores[metric],
        change=found.change(rule.confidence),
        is_ratio=found.is_ratio,
        power=power,
        items=found.items,
        groups=found.gain.groups,
    )


def _outcome(rule: Rule, gain: Interval, threshold: float, power: Power) -> str:
    if gain.high < threshold:
        return FAILED
    if gain.low > threshold or (gain.low == threshold and rule.kind != BEATS):
        return PASSED
    return PASSED if power.suffices and rule.kind not in TO_BE_SHOWN else INCONCLUSIVE


def _power(rule: Rule, found: PairedTest) -> Power:
    design = (found.design or partial(Design.of, found.gain))(rule.confidence)

    def shown(smallest: float) -> float | None:
        told = found.display(smallest)
        return told if smallest <= found.possible and math.isfinite(told) else None

    least, most = found.shrink
    if rule.kind == "non_inferiority":
        smallest, margin = design.margin_held(), rule.bound * least
        needed = design.groups_to_hold(margin) if margin > 0 else None
        return Power(shown(smallest), rule.bound, needed, smallest <= margin)
    if rule.kind in ("min_gain", BEATS):
        held = max(0.0, found.gain.mean - found.gain.agreement)
        return Power(shown(design.smallest_shown(rule.bound * most, held)), None, None, True)
    smallest = design.smallest_shown(found.allowed)
    wanted = min(found.wanted(rule), found.possible)
    return Power(
        shown(smallest),
        found.display(wanted) if math.isfinite(wanted) else None,
        design.groups_needed(wanted, found.allowed) if math.isfinite(wanted) else None,
        smallest <= wanted < math.inf,
    )


def check_comparable(before: Measurement, after: Measurement) -> None:
    """Raise unless two measurements are of the same items, scored in the same way.

    Raises:
        InputError: They are not; the message names the first difference.
    """
    task = after.task
    if before.version != after.version:
        raise InputError(f"{task} has version {after.version}; the other is {before.version}.")
    for key in sorted({*before.meaning, *after.meaning}):
        old, new = before.meaning.get(key), after.meaning.get(key)
        if old != new:
            raise InputError(f"{task} has {key} {new}; the other measurement has {old}.")
    if set(before.ids) != set(after.ids):
        lost, new_ones = len({*before.ids} - {*after.ids}), len({*after.ids} - {*before.ids})
        raise InputError(
            f"{task} has other items: {lost} of {len(before.ids)} are gone and {new_ones} are new."
        )

"""Verdicts in words; terminal, JUnit, Markdown and assertions all say the same."""

from __future__ import annotations

from collections.abc import Iterator

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.gate.check import Outcome
from lm_eval_trust.gate.rules import Rule
from lm_eval_trust.gate.verdicts import INCONCLUSIVE, Power, Verdict

_SHOWN = {
    "max_drop": "a drop of {} or more",
    "min_gain": "a gain of {} or more",
    "non_inferiority": "a margin of {} or more",
}
_SHOWN_RATIO = {"min_ratio": "a ratio of {} or less", "max_ratio": "a ratio of {} or more"}
_COMPARED = {"unsteered": "unsteered", "baseline": "in the baseline"}


def title(verdict: Verdict) -> str:
    """Return task, metric and rule."""
    return f"{verdict.task} {verdict.rule.metric} {verdict.rule.text}"


def value(verdict: Verdict) -> str:
    """Return the metric, with its interval where that is what is judged."""
    if verdict.change is None and verdict.interval is not None:
        return f"{number(verdict.value)} {ends(verdict.interval)}"
    return number(verdict.value)


def change(verdict: Verdict) -> str:
    """Return difference or ratio with its interval; nothing for bounds on the metric itself."""
    if verdict.change is None:
        return ""
    return f"{change_name(verdict)} {amount(verdict)} {ends(verdict.change)}"


def change_name(verdict: Verdict) -> str:
    """Return what the change is."""
    return "ratio" if verdict.is_ratio else "difference"


def amount(verdict: Verdict) -> str:
    """Return the change itself, a difference with its sign."""
    if verdict.change is None:
        return ""
    mean = verdict.change.mean
    return number(mean) if verdict.is_ratio else f"{mean:+.4g}"


def power(verdict: Verdict) -> str:
    """Return what the items could have shown; nothing for bounds on the metric itself."""
    found = verdict.power
    if found is None:
        return ""
    counted = f"these {items_in_groups(verdict.items, verdict.groups)}"
    if found.smallest is None:
        could = f"{counted} would not surely show any possible {_kind(verdict.rule)}"
    else:
        shown = _SHOWN_RATIO[verdict.rule.kind] if verdict.is_ratio else _shown(verdict.rule)
        could = f"{counted} show {shown.format(number(found.smallest))}"
    return could + _needed(found, verdict)


def _shown(rule: Rule) -> str:
    return _SHOWN.get(rule.kind, _SHOWN["max_drop"])


def _needed(found: Power, verdict: Verdict) -> str:
    if found.suffices or found.wanted is None:
        return ""
    if found.needed is None:
        return ""
    unit = "items" if verdict.groups == verdict.items else "groups of items"
    return f"; {number(found.wanted)} needs about {found.needed} {unit}"


def _kind(rule: Rule) -> str:
    return {"min_gain": "gain", "non_inferiority": "margin"}.get(rule.kind, "drop")


def items_in_groups(items: int, groups: int) -> str:
    """Return how many items there are, and in how many groups where that is another number."""
    return f"{items} items" if groups == items else f"{items} items in {groups} groups"


def sentence(verdict: Verdict) -> str:
    """Return all of a verdict in a line."""
    parts = [f"{verdict.rule.metric} is {value(verdict)}"]
    if verdict.reference is not None:
        compared = _COMPARED[verdict.rule.against]
        parts[0] += f", {number(verdict.reference)} {compared}"
        parts.append(f"{change(verdict)} at {verdict.rule.confidence:.4g} confidence")
        parts.append(power(verdict))
    return f"{title(verdict)}: {'; '.join(parts)}"


def lines(outcome: Outcome) -> Iterator[str]:
    """Return a check's report for a terminal."""
    yield f"{outcome.path}: {'passed' if outcome.passed else 'FAILED'}"
    for verdict in outcome.verdicts:
        yield f"  {label(verdict):<21} {sentence(verdict)}"


def label(verdict: Verdict) -> str:
    """Return the verdict, and for an inconclusive one what it counts as."""
    if verdict.outcome == INCONCLUSIVE:
        return f"inconclusive ({'fails' if verdict.fails_check else 'warning'})"
    return verdict.outcome.upper() if verdict.fails_check else verdict.outcome


def number(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:.4g}"


def ends(interval: Interval) -> str:
    """Return an interval's ends."""
    return f"[{number(interval.low)}, {number(interval.high)}]"

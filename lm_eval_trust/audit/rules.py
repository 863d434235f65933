"""The rules of an audit, each with its figures, and the verdict that follows from them.

Each rule is decided by the gate's tests. That all of them hold is claimed only if each is shown, so
the claim needs no correction for their number (Berger 1982). Harm is claimed if any one comparison
with the unsteered model shows it, so its intervals are corrected for their number (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lm_eval_trust.analysis.comparison import Comparison, holm
from lm_eval_trust.analysis.effects import Effects
from lm_eval_trust.audit.measure import Measured, Plan
from lm_eval_trust.audit.settings import Audit
from lm_eval_trust.evaluate.item_effects import item_effects
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.evaluate.paired_items import compare_items
from lm_eval_trust.gate.check_file import Rule, beats_rule
from lm_eval_trust.gate.reports import sentence
from lm_eval_trust.gate.verdicts import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    RuleVerdict,
    decide,
    decide_random,
)

SHOWN, NOT_SHOWN, HARMFUL = "shown", "not shown", "harmful"
#: Group of a rule → what it asks, in the order of the page.
GROUPS: Mapping[str, str] = {
    "gain": "The steered model is better than the unsteered one.",
    "random": "It gains more than random directions of the same length.",
    "controls": "It is better than each other control.",
    "robust": "It is better than each rewording of the prompt and the other draw of examples.",
    "items": "It moves few items the wrong way.",
    "side effects": "No other task loses more than the margin, and text is read as well.",
}


@dataclass(frozen=True)
class Finding:
    """One rule and what the data show about it.

    Attributes:
        group: A key of :data:`GROUPS`.
        title: What is demanded.
        outcome: ``passed``, ``failed`` or ``inconclusive``.
        said: The figures in a sentence.
        verdict: The gate's verdict, where it decided.
        harm: Whether a loss is shown at a confidence that is corrected for the number of
            comparisons with the unsteered model, or only the steered model gives no usable values.
    """

    group: str
    title: str
    outcome: str
    said: str
    verdict: RuleVerdict | None = None
    harm: bool = False


@dataclass(frozen=True)
class ArmRow:
    """A control arm on a task.

    Attributes:
        task: The task.
        arm: Name of the arm.
        value: Its score.
        gain: Gain of the steered model over it, with p.
        adjusted: p adjusted for all arms of the audit (Holm 1979).
        steered: Score with the steering added to the arm's text; ``None`` for arms that steer.
        within: What the steering changes under the arm's text.
        without: Number of items without a value under the arm or the steered model, which the
            gain leaves out.
    """

    task: str
    arm: str
    value: float
    gain: Comparison
    adjusted: float
    steered: float | None = None
    within: Comparison | None = None
    without: int = 0


@dataclass(frozen=True)
class Judged:
    """The verdict of an audit, and all that it rests on.

    Attributes:
        verdict: ``shown``, ``not shown`` or ``harmful``.
        findings: The rules.
        arms: The controls.
        effects: Task → effects on single items, all of them first, then by category.
    """

    verdict: str
    findings: tuple[Finding, ...]
    arms: tuple[ArmRow, ...]
    effects: Mapping[str, Sequence[Effects]]


def judge(audit: Audit, plan: Plan, measured: Measured) -> Judged:
    """Apply the rules.

    Raises:
        InputError: A metric cannot be compared item by item.
    """
    confidence = audit.demands.confidence
    effects = {
        task: item_effects(before, after, plan.metrics[task], confidence=confidence)
        for task, after in measured.after.measurements.items()
        if not _doubtful(plan, before := measured.before.measurements[task], after)
    }
    held = tuple(_held(plan, measured))
    tests = len(measured.before.measurements) + len(held)
    findings = (
        *_gains(audit, plan, measured, tests),
        *_items(audit, effects),
        *_side_effects(audit, held, tests),
    )
    arms = tuple(_arm_rows(plan, measured, confidence))
    return Judged(verdict_of(findings), findings, arms, effects)


def verdict_of(findings: Sequence[Finding]) -> str:
    """Return the verdict: harmful if harm is shown, shown if all rules passed."""
    if any(finding.harm for finding in findings):
        return HARMFUL
    complete = {"gain", "random"} <= {finding.group for finding in findings}
    passed = all(finding.outcome == PASSED for finding in findings)
    return SHOWN if complete and passed else NOT_SHOWN


def _doubtful(plan: Plan, *measurements: Measurement) -> bool:
    """Tell whether a metric means nothing, since items are not finite or none has a value."""
    return any(found.doubt(plan.metrics[found.task]) for found in measurements)


def _gains(audit: Audit, plan: Plan, measured: Measured, tests: int) -> Iterator[Finding]:
    again = {c.context.name for c in measured.contexts if c.context.again}
    for task, after in measured.after.measurements.items():
        before = measured.before.measurements[task]
        found = _beats(audit, plan, "unsteered", before, after)
        yield replace(found, group="gain", harm=_is_harm(found, before, after, tests))
        random = [o.measurements[task] for arm, o in measured.arms if arm.kind == "random"]
        if random:
            rule = _rule(audit, plan, task, f"random:{len(random)}")
            decided = decide_random(rule, after, random, tried=audit.tried or 1)
            yield _finding("random", decided, f"{task}: more than {len(random)} random directions")
        for arm, outcome in measured.arms:
            if arm.kind != "random":
                yield _beats(audit, plan, arm.name, outcome.measurements[task], after)
        for each in measured.contexts:
            if each.context.name in again:
                found = _beats(
                    audit, plan, each.context.name, each.before.measurements[task], after
                )
                yield replace(found, group="robust")


def _rule(audit: Audit, plan: Plan, task: str, against: str) -> Rule:
    return beats_rule(task, plan.metrics[task], against, audit.demands.confidence)


def _beats(
    audit: Audit, plan: Plan, against: str, before: Measurement, after: Measurement
) -> Finding:
    verdict = decide(_rule(audit, plan, after.task, against), after, before)
    return _finding("controls", verdict, f"{after.task}: better than {against}")


def _finding(group: str, verdict: RuleVerdict, title: str) -> Finding:
    said = sentence(verdict).split(": ", 1)[1]
    return Finding(group, title, verdict.outcome, said, verdict)


def _is_harm(found: Finding, before: Measurement, after: Measurement, tests: int) -> bool:
    """Tell whether a loss is still shown at a confidence corrected for the number of tests.

    Values that mean nothing are a loss if the unsteered model's mean something.
    """
    if found.outcome != FAILED or found.verdict is None:
        return False
    rule = found.verdict.rule
    if found.verdict.doubt:
        return not before.doubt(before.metric(rule.metric))
    corrected = replace(rule, confidence=1 - (1 - rule.confidence) / tests)
    return decide(corrected, after, before).outcome == FAILED


def _items(audit: Audit, effects: Mapping[str, Sequence[Effects]]) -> Iterator[Finding]:
    most = audit.demands.most_wrong
    for task, (whole, *_) in effects.items():
        wrong = whole.wrong
        outcome = INCONCLUSIVE
        if wrong.high <= most:
            outcome = PASSED
        elif wrong.low > most:
            outcome = FAILED
        said = f"it {whole.sentence}"
        yield Finding("items", f"{task}: at most {most:.0%} moved the wrong way", outcome, said)


def _held(plan: Plan, measured: Measured) -> Iterator[tuple[str, Measurement, Measurement]]:
    """Yield each metric that must not become worse, with both models' measurements of its task."""
    if measured.suite is not None:
        before_suite, after_suite = measured.suite
        for task, metrics in plan.held.items():
            for metric in metrics:
                yield metric, before_suite.measurements[task], after_suite.measurements[task]
    before_text, after_text = measured.text
    for task, before in before_text.measurements.items():
        yield _perplexity(before), before, after_text.measurements[task]


def _side_effects(
    audit: Audit, held: Sequence[tuple[str, Measurement, Measurement]], tests: int
) -> Iterator[Finding]:
    for metric, before, after in held:
        task = after.task
        of_text = "perplexity" in metric
        kind, bound = (
            ("max_ratio", audit.demands.perplexity_ratio)
            if of_text
            else ("non_inferiority", audit.demands.margin)
        )
        rule = Rule(
            task=task,
            metric=metric,
            kind=kind,
            bound=bound,
            against="unsteered",
            confidence=audit.demands.confidence,
            detect=None,
            strict=True,
            place=(),
        )
        what = f"a ratio of at most {bound:g}" if of_text else f"no loss of more than {bound:g}"
        finding = _finding("side effects", decide(rule, after, before), f"{task} {metric}: {what}")
        yield replace(finding, harm=_is_harm(finding, before, after, tests))


def _perplexity(measured: Measurement) -> str:
    return next(name for name in ("perplexity", "word_perplexity") if name in measured.scores)


def _arm_rows(plan: Plan, measured: Measured, confidence: float) -> Iterator[ArmRow]:
    """Yield each control on each task; p is adjusted for all of them."""
    contexts = {each.context.name: each for each in measured.contexts}
    outcomes = {"unsteered": measured.before}
    outcomes |= {arm.name: outcome for arm, outcome in measured.arms}
    outcomes |= {name: each.before for name, each in contexts.items()}
    rows = []
    for task, after in measured.after.measurements.items():
        metric = plan.metrics[task]
        for name, outcome in outcomes.items():
            arm = outcome.measurements[task]
            if _doubtful(plan, arm, after):
                continue
            gain = compare_items(arm.items, after.items, metric, confidence=confidence)
            if gain is None:
                continue
            without = len(after.ids) - gain.items
            row = ArmRow(task, name, arm.scores[metric], gain, 1.0, without=without)
            if name in contexts:
                steered = contexts[name].after.measurements[task]
                if not _doubtful(plan, steered):
                    within = compare_items(arm.items, steered.items, metric, confidence=confidence)
                    row = replace(row, steered=steered.scores[metric], within=within)
            rows.append(row)
    adjusted = holm([row.gain.p for row in rows])
    return (replace(row, adjusted=p) for row, p in zip(rows, adjusted, strict=True))

"""Rules one by one: what a check's file says of a task and a metric, taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lm_eval_trust.core.yaml_file import Place
from lm_eval_trust.gate.spec import BOUNDS, DIFFERENCES, RATIOS, CheckSpec, MetricSpec


@dataclass(frozen=True)
class Rule:
    """One thing that has to hold.

    Attributes:
        task: Task, group or tag as the file has it; each task of a group has to keep the rule.
        metric: Metric of the task, with its filter where there are several: ``acc,strict``.
        kind: ``min``, ``max``, ``max_drop``, ``min_gain``, ``non_inferiority``, ``min_ratio`` or
            ``max_ratio``.
        bound: Its number.
        against: What is compared with: ``unsteered`` or ``baseline``.
        confidence: Of the two-sided interval.
        detect: What the items have to be able to show, in the units of ``bound``; ``None`` for
            the default.
        strict: Whether an inconclusive verdict fails the check.
        place: Where in the file it is.
    """

    task: str
    metric: str
    kind: str
    bound: float
    against: str
    confidence: float
    detect: float | None
    strict: bool
    place: Place

    @property
    def compares(self) -> bool:
        """Whether the rule needs a reference."""
        return self.kind not in BOUNDS

    @property
    def text(self) -> str:
        """The rule as the file has it."""
        return f"{self.kind} {self.bound:g}"


def rules_of(spec: CheckSpec) -> Iterator[Rule]:
    """Return the rules in the order of the file."""
    for task, metrics in spec.rules.items():
        for metric, given in metrics.items():
            for kind in (*BOUNDS, *DIFFERENCES, *RATIOS):
                if getattr(given, kind) is not None:
                    yield _rule(spec, task, metric, kind, given)


def _rule(spec: CheckSpec, task: str, metric: str, kind: str, given: MetricSpec) -> Rule:
    value, confidence = getattr(given, kind), spec.confidence
    if given.non_inferiority is not None and kind == "non_inferiority":
        value = given.non_inferiority.margin
        confidence = given.non_inferiority.confidence or confidence
    # What has to be shown is not shown by an inconclusive result; what must not be shown is absent.
    policy = spec.inconclusive or ("fail" if kind in ("min_gain", "non_inferiority") else "warn")
    return Rule(
        task=task,
        metric=metric,
        kind=kind,
        bound=float(value),
        against=given.against or spec.against,
        confidence=confidence,
        detect=given.detect if kind in ("max_drop", *RATIOS) else None,
        strict=policy == "fail",
        place=("rules", task, metric, kind),
    )

"""A check's file: the keys it may have, its rules one by one, and its validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.strict_model import StrictModel
from lm_eval_trust.core.yaml_file import Document, Place, read_document
from lm_eval_trust.evaluate.controls import KINDS, LEAST, Controls, check_shuffled, read_prompt
from lm_eval_trust.evaluate.harness import check_metric, needs_defaults
from lm_eval_trust.gate.baseline import baseline_path, read_baseline
from lm_eval_trust.plugin import MODELS

if TYPE_CHECKING:  # Torch takes seconds to load, and a check without steering needs none of it.
    from lm_eval_trust.gate.models import Subject
    from lm_eval_trust.steering.spec import SteeringSpec


def _known_model(name: str) -> str:
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return name


Wrapper = Annotated[str, AfterValidator(_known_model)]
Against = Literal["unsteered", "baseline"]
Policy = Literal["fail", "warn"]
Confidence = Annotated[float, Field(gt=0.5, lt=1, strict=True)]
Count = Annotated[int, Field(gt=0, strict=True)]
Scalar = str | int | float | bool
#: Rules that compare with a reference by the difference from it, and by the ratio to it.
DIFFERENCES = ("max_drop", "min_gain", "non_inferiority")
RATIOS = ("min_ratio", "max_ratio")
BOUNDS = ("min", "max")
#: The rule that compares with control arms.
BEATS = "beats"
#: Rules that pass only if something good is shown; the others fail only if something bad is.
TO_BE_SHOWN = ("min_gain", "non_inferiority", BEATS)


class _Rules(StrictModel):
    # Otherwise a rule of `true` would be one of 1.0, which may allow everything.
    model_config = ConfigDict(strict=True)


class ModelSpec(StrictModel):
    """A harness model and its arguments.

    Attributes:
        model: Name of the harness model.
        model_args: Its arguments.
        log: Instead: its log of inspect_ai, relative to the check.
    """

    model: Wrapper = "amber"
    model_args: dict[str, Scalar] = Field(default_factory=dict)
    log: str | None = None


class NonInferiority(_Rules):
    """The largest acceptable loss; the data have to show that no more is lost.

    Attributes:
        margin: The largest acceptable loss, in the metric's units.
        confidence: Confidence of the interval; the check's ``confidence`` by default.
    """

    margin: PositiveFloat
    confidence: Confidence | None = None


class ControlSpec(StrictModel):
    """What control arms need in addition to their names.

    Attributes:
        prompt: Text of the control prompt, or ``@FILE``; the benchmark's own by default.
        source: Model that the vectors were built from, for ``shuffled``.
        seed: Seed for drawing examples.
    """

    prompt: str | None = None
    source: str | None = None
    seed: Annotated[int, Field(ge=0, strict=True)] = 0


def _numbers_of_arms(given: dict[str, bool | int]) -> dict[str, int]:
    """Return kind → its number; ``true`` is the usual one."""
    if not given:
        raise InputError(f"beats names no control; give one or more of {', '.join(KINDS)}.")
    for kind, number in given.items():
        if kind not in KINDS:
            raise unknown_name("control", kind, KINDS)
        if number is True:
            continue
        if number is False or kind not in LEAST:
            raise InputError(f"{kind} is {number!r}; expected true, or leave it out.")
        if number < LEAST[kind]:
            raise InputError(f"{kind} is {number}; expected a whole number from {LEAST[kind]} on.")
    return {kind: KINDS[kind] if number is True else number for kind, number in given.items()}


class MetricSpec(_Rules):
    """The rules of one metric; docs/gate.md defines them.

    Attributes:
        min: Lowest acceptable value.
        max: Highest acceptable value.
        max_drop: Largest acceptable worsening.
        min_gain: Smallest improvement that the data must show.
        min_ratio: Lowest acceptable ratio to the reference, for metrics where higher is better.
        max_ratio: Highest acceptable ratio to the reference, for metrics where lower is better.
        non_inferiority: Largest loss; the data must rule out a larger one.
        beats: Controls that the model has to beat: ``prompt: true``, ``few-shot: 5``,
            ``random: 8``, ``shuffled: 2``, ``sign: true``, ``unsteered: true``.
        against: The reference of this metric's rules; the check's ``against`` by default.
        detect: Change that the items must be able to show.
    """

    min: float | None = None
    max: float | None = None
    max_drop: NonNegativeFloat | None = None
    min_gain: NonNegativeFloat | None = None
    min_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    max_ratio: Annotated[float, Field(ge=1)] | None = None
    non_inferiority: NonInferiority | None = None
    beats: Annotated[dict[str, bool | int], AfterValidator(_numbers_of_arms)] | None = None
    against: Against | None = None
    detect: PositiveFloat | None = None

    @model_validator(mode="after")
    def _rules(self) -> MetricSpec:
        kinds = (*BOUNDS, *DIFFERENCES, *RATIOS, BEATS)
        given = [key for key in kinds if getattr(self, key) is not None]
        if not given:
            known = ", ".join(kinds)
            raise InputError(f"there is no rule; give one or more of {known}.")
        detecting = [key for key in given if key in ("max_drop", *RATIOS)]
        if self.detect is None:
            return self
        if len(detecting) != 1:
            raise InputError("`detect` belongs to one of max_drop, min_ratio or max_ratio.")
        (kind,) = detecting
        allowed = getattr(self, kind)
        beyond = self.detect < allowed if kind == "min_ratio" else self.detect > allowed
        if not beyond:
            raise InputError(
                f"`detect` has to lie beyond {kind}, {allowed:g}; got {self.detect:g}."
            )
        return self


class CheckSpec(StrictModel):
    """The whole file.

    Attributes:
        model: Harness model to check.
        model_args: Its arguments, without steering.
        log: Instead of a model: a log of inspect_ai (``.eval``), relative to the check.
        engine: Engine that the models run on.
        steering: A steering file, relative to the check, or a list of entries.
        reference: The model that ``unsteered`` means, if it is not ``model`` without steering.
        limit: Most items of each task.
        limits: Task → most items, for single tasks.
        metadata: Settings of the tasks, as ``lm_eval --metadata``.
        confidence: Confidence of the two-sided intervals.
        against: What rules compare with.
        inconclusive: Whether an inconclusive rule fails the check or warns; by default it depends
            on the kind of rule.
        judge_correction: Whether judged scores are tested without the judge's errors.
        disagreement: For ``--dry-run``: share of items on which the two models are expected to
            differ.
        controls: What control arms need.
        rules: Task → metric → rules.
    """

    model: Wrapper = "amber"
    model_args: dict[str, Scalar] = Field(default_factory=dict)
    log: str | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    steering: str | tuple[dict[str, Any], ...] | None = None
    reference: ModelSpec | None = None
    limit: Count | None = None
    limits: dict[str, Count] = Field(default_factory=dict)
    metadata: dict[str, Scalar] = Field(default_factory=dict)
    confidence: Confidence = 0.95
    against: Against = "unsteered"
    inconclusive: Policy | None = None
    judge_correction: Annotated[bool, Field(strict=True)] = False
    disagreement: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.1
    controls: ControlSpec = ControlSpec()
    rules: dict[str, dict[str, MetricSpec]] = Field(min_length=1)

    @model_validator(mode="after")
    def _limits_of_rules(self) -> CheckSpec:
        for name in self.limits:
            if name not in self.rules:
                raise InputError(f"limits: {name} has no rules; known are {', '.join(self.rules)}.")
        for name, metrics in self.rules.items():
            if not metrics:
                raise InputError(f"rules: {name} names no metric.")
        return self

    def limit_of(self, name: str) -> int | None:
        """Return the largest number of items to evaluate of a task, group or tag."""
        return self.limits.get(name, self.limit)


@dataclass(frozen=True)
class Rule:
    """One rule on one metric.

    Attributes:
        task: Task, group or tag as the file has it; each task of a group has to keep the rule.
        metric: Metric of the task, with its filter if there are several: ``acc,strict``.
        kind: ``min``, ``max``, ``max_drop``, ``min_gain``, ``non_inferiority``, ``min_ratio``,
            ``max_ratio`` or ``beats``.
        bound: Its number; 0 for ``beats``.
        against: The reference: ``unsteered`` or ``baseline``; for ``beats`` the control, or
            ``random:K`` for as many random directions.
        confidence: Confidence of the two-sided interval.
        detect: Change that the items have to be able to show, in the units of ``bound``; ``None``
            for the default.
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
        return f"{self.kind} {self.against if self.kind == BEATS else f'{self.bound:g}'}"


def rules_of(spec: CheckSpec) -> Iterator[Rule]:
    """Return the rules in the order of the file."""
    for task, metrics in spec.rules.items():
        for metric, given in metrics.items():
            for kind in (*BOUNDS, *DIFFERENCES, *RATIOS):
                if getattr(given, kind) is not None:
                    yield _rule(spec, task, metric, kind, given)
            for kind, count in (given.beats or {}).items():
                for name in _compared_arms(kind, count):
                    yield beats_rule(task, metric, name, spec.confidence, spec.inconclusive)


def _compared_arms(kind: str, count: int) -> list[str]:
    """Return what ``beats`` compares with, one by one, but random directions all at once."""
    if kind == "random":
        return [f"random:{count}"]
    return [f"{kind} {n}" for n in range(1, count + 1)] if kind == "shuffled" else [kind]


def beats_rule(
    task: str, metric: str, against: str, confidence: float, inconclusive: str | None = None
) -> Rule:
    """Return the rule that the checked model beats a control; see :class:`Rule`."""
    strict = inconclusive != "warn"
    place = ("rules", task, metric, BEATS)
    return Rule(task, metric, BEATS, 0.0, against, confidence, None, strict, place)


def _rule(spec: CheckSpec, task: str, metric: str, kind: str, given: MetricSpec) -> Rule:
    value, confidence = getattr(given, kind), spec.confidence
    if given.non_inferiority is not None and kind == "non_inferiority":
        value = given.non_inferiority.margin
        confidence = given.non_inferiority.confidence or confidence
    # By default an inconclusive result fails rules that ask for something to be shown.
    policy = spec.inconclusive or ("fail" if kind in TO_BE_SHOWN else "warn")
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


@dataclass(frozen=True)
class Check:
    """A check as its file declares it.

    Attributes:
        document: The file.
        spec: Its content.
        rules: Its rules, in order.
    """

    document: Document
    spec: CheckSpec
    rules: tuple[Rule, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.document.path

    @property
    def baseline(self) -> Path:
        """Path of its baseline, which may not exist yet."""
        return baseline_path(self.path)

    def needs(self, reference: str) -> bool:
        """Tell whether a rule compares with ``unsteered`` or ``baseline``."""
        return any(rule.compares and rule.against == reference for rule in self.rules)

    @property
    def controls(self) -> Controls:
        """The control arms of all rules together.

        Raises:
            InputError: The model is not steered, two rules want different numbers of examples, or
                labels are to be shuffled and the source of the vectors is not told.
        """
        counts: dict[str, int] = {}
        for task, metrics in self.spec.rules.items():
            for metric, given in metrics.items():
                for kind, count in (given.beats or {}).items():
                    with self.document.at("rules", task, metric, BEATS, kind):
                        if self.spec.steering is None:
                            raise InputError("a control is one of a steering; give `steering:`.")
                        if kind == "few-shot" and counts.get(kind, count) != count:
                            raise InputError(
                                f"few-shot is {count} here and {counts[kind]} above; give all "
                                f"rules one number."
                            )
                        if kind == "shuffled" and self.spec.controls.source is None:
                            raise InputError(
                                "shuffled needs the model that the vectors were built from; give "
                                "`controls: {source: MODEL}`."
                            )
                        counts[kind] = max(count, counts.get(kind, 0))
        told = self.spec.controls
        prompt = None
        if told.prompt is not None:
            with self.document.at("controls", "prompt"):
                prompt = read_prompt(told.prompt)
        return Controls(counts, prompt, told.source, told.seed)

    def steering(self) -> list[SteeringSpec]:
        """Return the steering, given inline or in its own file; empty for none.

        Raises:
            InputError: With file, line and key of what is wrong.
        """
        given = self.spec.steering
        if given is None:
            return []
        from lm_eval_trust.steering.spec import parse_entries, read_steering_file

        folder = self.path.parent
        if isinstance(given, str):
            with self.document.at("steering"):
                return read_steering_file(folder / given)
        return parse_entries(given, folder=folder, at=self.document.at)

    def subjects(self) -> tuple[Subject, Subject | None]:
        """Return the checked model and, if a rule compares with it, the unsteered one.

        Raises:
            InputError: With file and line.
            ExternalError: A model cannot be fetched.
        """
        from lm_eval_trust.gate.models import reference_subject, steered_subject

        if self.spec.reference is not None and self.spec.reference.log is not None:
            with self.document.at("reference", "log"):
                raise InputError("a log compares with a log; give the check a `log` as well.")
        steering = self.steering()
        with self.document.at("steering" if steering else "model_args"):
            steered = steered_subject(self.spec, steering)
        if not (self.needs("unsteered") or self.controls.counts):
            return steered, None
        with self.document.at("reference" if self.spec.reference else "model"):
            return steered, reference_subject(self.spec, steered)


def read_check(path: Path) -> Check:
    """Read a check's file.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    document = read_document(path, "check")
    spec = document.parse(CheckSpec)
    return Check(document, spec, tuple(rules_of(spec)))


def validate(check: Check) -> None:
    """Raise unless everything that a check names exists, as far as files on this machine tell.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    if check.spec.log is not None:
        from lm_eval_trust.gate.logs import read_logs

        read_logs(check)
    for rule in () if check.spec.log is not None else check.rules:
        with check.document.at("rules", rule.task, rule.metric):
            check_metric(rule.task, rule.metric)
    # Other tasks may take settings that are not known here.
    if check.spec.metadata and not any(map(needs_defaults, check.spec.rules)):
        from lm_eval_trust.tasks.row_settings import check_metadata

        with check.document.at("metadata"):
            check_metadata(check.spec.metadata)
    if check.controls.counts:
        with check.document.at("rules"):
            check_shuffled(check.controls, check.steering())
    _validate_steering(check)
    if check.needs("baseline"):
        with check.document.at("rules"):
            read_baseline(check.baseline)


def _validate_steering(check: Check) -> None:
    steering = check.steering()
    if not steering:
        return
    from lm_eval_trust.gate.models import local_depth

    depth = local_depth(check.spec)
    inline = not isinstance(check.spec.steering, str)
    for number, spec in enumerate(steering):
        with check.document.at("steering", *([number] if inline else [])):
            if spec.vector is not None:
                spec.plan()
            if depth is not None and max(spec.layers) >= depth:
                raise InputError(
                    f"layer {max(spec.layers)} does not exist: the model's {depth} decoder blocks "
                    f"are 0 to {depth - 1}."
                )

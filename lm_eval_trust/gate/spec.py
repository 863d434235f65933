"""What a check's YAML file may say: the declared keys, their values and their defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from lm_eval_trust.core.errors import InputError

Wrapper = Literal["amber", "steered_amber", "lora_amber", "finetuned_amber", "proxy_amber"]
Against = Literal["unsteered", "baseline"]
Policy = Literal["fail", "warn"]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]
#: Items; `yes` is no number of them.
Count = Annotated[int, Field(gt=0, strict=True)]
Scalar = str | int | float | bool
#: Keys of rules that compare with a reference by its difference from it, and by its ratio to it.
DIFFERENCES = ("max_drop", "min_gain", "non_inferiority")
RATIOS = ("min_ratio", "max_ratio")
BOUNDS = ("min", "max")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Rules(_Strict):
    # A rule of `yes` would be one of 1.0, which may allow everything.
    model_config = ConfigDict(strict=True)


class ModelSpec(_Strict):
    """A harness model and its arguments."""

    model: Wrapper = "amber"
    model_args: dict[str, Scalar] = {}


class NonInferiority(_Rules):
    """How much may be lost at most, to be shown."""

    margin: PositiveFloat
    confidence: Confidence | None = None


class MetricSpec(_Rules):
    """The rules of one metric; see docs/gate.md for what each of them means."""

    min: float | None = None
    max: float | None = None
    max_drop: NonNegativeFloat | None = None
    min_gain: NonNegativeFloat | None = None
    min_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    max_ratio: Annotated[float, Field(ge=1)] | None = None
    non_inferiority: NonInferiority | None = None
    against: Against | None = None
    detect: PositiveFloat | None = None

    @model_validator(mode="after")
    def _rules(self) -> MetricSpec:
        given = [key for key in (*BOUNDS, *DIFFERENCES, *RATIOS) if getattr(self, key) is not None]
        if not given:
            known = ", ".join((*BOUNDS, *DIFFERENCES, *RATIOS))
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


class CheckSpec(_Strict):
    """A whole check."""

    model: Wrapper = "amber"
    model_args: dict[str, Scalar] = {}
    steering: str | tuple[dict[str, Any], ...] | None = None
    reference: ModelSpec | None = None
    limit: Count | None = None
    limits: dict[str, Count] = {}
    metadata: dict[str, Scalar] = {}
    confidence: Confidence = 0.95
    against: Against = "unsteered"
    inconclusive: Policy | None = None
    disagreement: Annotated[float, Field(ge=0, le=1)] = 0.1
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
        """Return how many items of a task, group or tag are evaluated at most."""
        return self.limits.get(name, self.limit)

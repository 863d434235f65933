"""Settings of a sweep: which configurations it tries, on what it measures, what it allows."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.evaluate.controls import Controls
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.steering.conditions import When
from lm_eval_trust.steering.spec import SteeringSpec, check_setting
from lm_eval_trust.sweep import SEARCHES

_JOINT = "+"
#: A perplexity under 6 counts as reasonable for Amber (arXiv 2402.19465, section 3.4).
AMBER_PERPLEXITY = 6.0
_DATA_VARIABLE = "LM_EVAL_TRUST_DATA"


@dataclass(frozen=True)
class Grid:
    """All combinations of what a sweep varies.

    Attributes:
        vectors: Vector files.
        layers: Decoder blocks, or several at once, of one configuration each.
        alphas: Strengths, ascending; 0 is always evaluated as well, as the unsteered model.
        positions: Kinds of positions.
        action: The action.
        scale: The scale.
        when: Which rows are steered; all by default.

    Raises:
        InputError: Values that are given twice, that the setting does not take, or no strength
            other than 0.
    """

    vectors: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    alphas: tuple[float, ...]
    positions: tuple[str, ...] = ("generated",)
    action: str = "add"
    scale: str = "projection_std"
    when: When | None = None

    def __post_init__(self) -> None:
        for name in ("vectors", "layers", "alphas", "positions"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name} of the sweep are {list(values)}; name each once.")
        if not all(map(math.isfinite, self.alphas)):
            raise InputError(f"alphas are {list(self.alphas)}; expected finite numbers.")
        if not any(self.alphas):
            raise InputError("alphas hold 0 only, which is the unsteered model; add others.")
        for place in self.positions:
            check_setting("positions", place)
        check_setting("action", self.action)
        check_setting("scale", self.scale)

    @property
    def families(self) -> list[SteeringSpec]:
        """Combinations of all but the strength, at α = 0."""
        return [
            SteeringSpec(
                vector=vector,
                layer=layers,
                alpha=0.0,
                positions=positions,
                action=self.action,
                scale=self.scale,
                when=self.when,
            )
            for vector, layers, positions in itertools.product(
                self.vectors, self.layers, self.positions
            )
        ]

    @property
    def configurations(self) -> list[SteeringSpec]:
        """All combinations, α = 0 left out."""
        return [family.at(alpha) for family in self.families for alpha in self.alphas if alpha]

    @property
    def fingerprint(self) -> str:
        """Identity of the grid."""
        return fingerprint({key: value for key, value in asdict(self).items() if value is not None})


def parse_sweep_layers(text: str) -> tuple[tuple[int, ...], ...]:
    """Read layers to try: ``10-20`` or ``12,14`` one by one, ``14+16`` together.

    Raises:
        InputError: The text is none of these.
    """
    found: list[tuple[int, ...]] = []
    for part in text.split(","):
        if _JOINT in part:
            found.append(tuple(parse_layers(part)))
        else:
            found.extend((layer,) for layer in parse_layers(part))
    return tuple(found)


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Read numbers with commas between them; ascending, each once.

    Raises:
        InputError: One is not a number.
    """
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; expected numbers such as 0.5,1,2.") from error


def midpoints(family: SteeringSpec, tried: Sequence[float], best: float) -> list[SteeringSpec]:
    """Return the configurations halfway from the best strength to its tried neighbours."""
    known = sorted({0.0, *tried})
    at = known.index(best)
    neighbours = [*known[max(at - 1, 0) : at], *known[at + 1 : at + 2]]
    return [family.at((best + other) / 2) for other in neighbours]


@dataclass(frozen=True)
class Items:
    """On what a configuration is evaluated.

    Attributes:
        tasks: Tasks, groups or tags.
        part: ``validation`` or ``test``; tasks without parts (the harness's own) give every
            second item to each.
        limit: Items of each task at most.
        metadata: Settings of the tasks.
    """

    tasks: tuple[str, ...]
    part: str
    limit: int | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Keep:
    """A side effect that a configuration may have.

    Attributes:
        task: A task or group; each of its tasks has to keep the limit.
        loss: By how much its score may become worse, in the units of the metric.
        metric: Which; empty for what stands for the task
            (:func:`~lm_eval_trust.evaluate.tasks.held_metrics`).
    """

    task: str
    loss: float
    metric: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.loss < math.inf:
            raise InputError(
                f"{self.task} may lose {self.loss:g}; expected a finite number from 0 on."
            )

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Read ``TASK:LOSS`` or ``TASK:METRIC:LOSS``, such as ``trust_safety:0.02``.

        Raises:
            InputError: It is neither.
        """
        parts = text.split(":")
        try:
            loss = float(parts[-1])
        except ValueError:
            loss = math.nan
        if len(parts) not in (2, 3) or not all(parts) or math.isnan(loss):
            raise InputError(
                f"--keep {text!r} has neither the form TASK:LOSS nor TASK:METRIC:LOSS; write, for "
                f"example, trust_safety:0.02."
            )
        return cls(parts[0], loss, *parts[1:-1])


@dataclass(frozen=True)
class Limits:
    """What a configuration may cost.

    Attributes:
        perplexity_ratio: Times the unsteered model's perplexity.
        perplexity: Perplexity itself; takes the place of the ratio where it is given.
        divergence: Mean KL(unsteered ‖ steered) per token of the perplexity task, in nats.
        ability: Share of the unsteered model's accuracy on the ability tasks.
        keep: What other tasks may lose.
    """

    perplexity_ratio: float = 1.33
    perplexity: float | None = None
    divergence: float | None = None
    ability: float = 0.95
    keep: tuple[Keep, ...] = ()

    def __post_init__(self) -> None:
        for name in ("perplexity_ratio", "perplexity", "divergence", "ability"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"The limit of {name} is {value}; expected a number above 0.")

    def highest_perplexity(self, unsteered: float) -> float:
        """Return the perplexity that is allowed."""
        return self.perplexity or self.perplexity_ratio * unsteered


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep measures, searches and chooses.

    Attributes:
        tasks: What is to become better, by the mean of ``metric``.
        perplexity_task: Text on which the cost of steering is measured.
        ability_tasks: General ability that has to stay, by ``acc``; none by default.
        metric: Metric of the tasks, higher is better.
        limit: Items of each task at most, on either part.
        limits: What is allowed.
        search: ``coarse-to-fine`` or ``grid``.
        rounds: Rounds of refinement of the first.
        kept: Families of configurations that are refined in each.
        metadata: Settings of the tasks.
        controls: What the choice is compared with on the test half; nothing by default.
    """

    tasks: tuple[str, ...]
    perplexity_task: str
    ability_tasks: tuple[str, ...] = ()
    metric: str = "trust_score"
    limit: int | None = None
    limits: Limits = field(default_factory=Limits)
    search: str = "coarse-to-fine"
    rounds: int = 2
    kept: int = 3
    metadata: Mapping[str, Any] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise unknown_name("search", self.search, SEARCHES)
        if not self.tasks:
            raise InputError("The sweep has no tasks; name what is to become better.")
        for name, least in (("rounds", 0), ("kept", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; expected at least 1.")

    @property
    def kept_tasks(self) -> tuple[str, ...]:
        """Tasks and groups whose losses are limited."""
        return tuple(dict.fromkeys(keep.task for keep in self.limits.keep))

    def items(self, tasks: tuple[str, ...], part: str) -> Items:
        """Return the items of some tasks on a part."""
        return Items(tasks, part, self.limit, self.metadata)


def default_perplexity_task(tasks: tuple[str, ...]) -> str:
    """Return LAMBADA, from a local folder if there is one; the embedded text for its tasks."""
    if all(task.endswith("_mini") for task in tasks):
        return "trust_world_text_mini"
    return "trust_lambada_openai_local" if os.environ.get(_DATA_VARIABLE) else "lambada_openai"

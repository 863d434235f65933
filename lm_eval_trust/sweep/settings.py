"""What a sweep is told beside its grid: on what it measures, and what it allows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name

SEARCHES = ("coarse-to-fine", "grid")
#: A perplexity under 6 counts as reasonable for Amber (arXiv 2402.19465, section 3.4).
AMBER_PERPLEXITY = 6.0
_DATA_VARIABLE = "LM_EVAL_TRUST_DATA"


@dataclass(frozen=True)
class Items:
    """On what a configuration is evaluated.

    Attributes:
        tasks: Tasks, groups or tags.
        part: ``validation`` or ``test``; tasks without parts (the harness's own) give every
            second item to each.
        limit: Items of each task at most.
        metadata: What tasks are told.
    """

    tasks: tuple[str, ...]
    part: str
    limit: int | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a configuration may cost.

    Attributes:
        perplexity_ratio: Times the unsteered model's perplexity.
        perplexity: Perplexity itself; takes the place of the ratio where it is given.
        divergence: Mean KL(unsteered ‖ steered) per token of the perplexity task, in nats.
        ability: Share of the unsteered model's accuracy on the ability tasks.
    """

    perplexity_ratio: float = 1.33
    perplexity: float | None = None
    divergence: float | None = None
    ability: float = 0.95

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
        perplexity_task: Text that tells what steering costs.
        ability_tasks: General ability that has to stay, by ``acc``; none by default.
        metric: Metric of the tasks, higher is better.
        limit: Items of each task at most, on either part.
        limits: What is allowed.
        search: ``coarse-to-fine`` or ``grid``.
        rounds: Rounds of refinement of the first.
        kept: Families of configurations that are refined in each.
        metadata: What tasks are told.
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

    def items(self, tasks: tuple[str, ...], part: str) -> Items:
        """Return the items of some tasks on a part."""
        return Items(tasks, part, self.limit, self.metadata)


def default_perplexity_task(tasks: tuple[str, ...]) -> str:
    """Return LAMBADA, from a local folder where there is one; the embedded text for its tasks."""
    if all(task.endswith("_mini") for task in tasks):
        return "trust_world_text_mini"
    return "trust_lambada_openai_local" if os.environ.get(_DATA_VARIABLE) else "lambada_openai"

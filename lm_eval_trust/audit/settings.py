"""What is audited, on what, and what the rules demand."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.registry import DATA_SOURCES, known_dimensions
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.controls import Controls
from lm_eval_trust.evaluate.harness import task_index
from lm_eval_trust.steering.plan import SteeringPlan

#: Rewordings of the control prompt that are tried beside it.
REWORDINGS = 3
#: What a steering must not make worse; of another source, those of them that there are.
_SUITES = ("trust_suite", "trust_safety")


@dataclass(frozen=True)
class Demands:
    """What the rules demand.

    Attributes:
        margin: Largest acceptable loss on a task of the suite, in the units of its metric.
        perplexity_ratio: Largest acceptable ratio to the unsteered perplexity.
        most_wrong: Largest acceptable share of items that are moved the wrong way.
        confidence: Confidence of the two-sided intervals.
    """

    margin: float = 0.05
    perplexity_ratio: float = 1.33
    most_wrong: float = 0.25
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, low, high in (
            ("margin", 0.0, float("inf")),
            ("perplexity_ratio", 1.0, float("inf")),
            ("most_wrong", 0.0, 1.0),
            ("confidence", 0.5, 1.0),
        ):
            value = getattr(self, name)
            if not low < value < high:
                raise InputError(f"{name} is {value:g}; expected a number above {low:g}.")


@dataclass(frozen=True)
class Audit:
    """What is audited.

    Attributes:
        steering: The steering file.
        model: Harness model, e.g. ``amber``.
        arguments: Its model arguments, without steering.
        tasks: What the steering is to make better; empty for the task of the dimension that its
            vector was built from.
        suite: What it must not make worse; empty for the suite and the safety tasks of the
            source that the tasks are of.
        metric: Metric of the tasks; empty for ``trust_score``, or otherwise ``acc``.
        limit: Items of each task at most, from the test part.
        metadata: Settings of the tasks.
        controls: The arms.
        rewordings: Texts of further control prompts; empty for those of each task's benchmark.
        tried: Configurations that the steering was chosen from; ``None`` reads it from the sweep
            in whose folder the steering file lies.
        demands: What the rules demand.
    """

    steering: Path
    model: str
    arguments: Mapping[str, Any]
    tasks: tuple[str, ...] = ()
    suite: tuple[str, ...] = ()
    metric: str = ""
    limit: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)
    rewordings: tuple[str, ...] = ()
    tried: int | None = None
    demands: Demands = field(default_factory=Demands)

    def resolved(self, plan: SteeringPlan) -> Audit:
        """Return the audit with its tasks, suite and number of configurations named.

        Raises:
            InputError: The vectors do not say what they are for, and no task is named; or the
                table of a sweep is damaged.
        """
        tasks = self.tasks or task_of(plan)
        source = next((s for s in DATA_SOURCES if all(t.endswith(f"_{s}") for t in tasks)), "")
        suite = self.suite or tuple(_suites(source))
        tried = self.tried or _tried(self.steering.parent / "sweep.csv") or 1
        return replace(self, tasks=tasks, suite=suite, tried=tried)


def _suites(source: str) -> Iterator[str]:
    first, *others = (f"{name}_{source}" if source else name for name in _SUITES)
    yield first
    yield from (name for name in others if name in task_index())


def task_of(plan: SteeringPlan) -> tuple[str, ...]:
    """Return the tasks of the dimensions that a plan's vectors were built from.

    Raises:
        InputError: They do not say, or the dimension has no task.
    """
    dimensions, found = known_dimensions(), []
    for made in plan.built_from:
        known = dimensions.get(made.dimension)
        if known is not None and known.task is not None:
            source = DATA_SOURCES.get(made.data_source)
            own = f"_{made.data_source}" if source and source.tasks_of_its_own else ""
            found.append(known.task + own)
    if not found:
        raise InputError(
            "The steering's vectors do not say which task they are to make better; name it by "
            "--tasks."
        )
    return tuple(dict.fromkeys(found))


def _tried(table: Path) -> int | None:
    """Return how many configurations a sweep scored; ``None`` without its table."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            return sum(bool(row["score"]) for row in csv.DictReader(file)) or None
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise InputError(
            f"{table}, beside the steering file, is no table of a sweep ({error}); say by --tried "
            f"how many configurations the steering was chosen from."
        ) from error

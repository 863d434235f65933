"""Configurations evaluated by the harness on a part of the data, each kept as a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.evaluate.harness import needs_defaults, quick_calls, save_results, task_manager
from lm_eval_trust.evaluate.paired_items import Item, items_of
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.sweep_model import PrefilledLM

#: Items whose answers are kept for reading.
EXAMPLES = 3
#: Resamples of the standard errors that have no closed form.
_BOOTSTRAP = 100


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
class Outcome:
    """What a configuration gave.

    Attributes:
        scores: Task or group → the harness's aggregated metrics.
        items: Task → its items by id.
        examples: Task → the first items' prompts and answers.
        divergence: Mean KL(unsteered ‖ steered) per scored token, in nats.
    """

    scores: dict[str, dict[str, Any]]
    items: dict[str, list[Item]]
    examples: dict[str, list[dict[str, str]]]
    divergence: float


class SweepEvaluator:
    """Evaluates plans on items with one loaded model.

    Args:
        model: Answers for all plans at once.
        folder: Where cells and the harness's results files go.
        context: What else the scores depend on.
    """

    def __init__(self, model: PrefilledLM, folder: Path, context: Mapping[str, Any]) -> None:
        self._model, self._folder, self._context = model, folder, dict(context)
        self._managers: dict[str, Any] = {}

    def evaluate(self, name: str, plan: SteeringPlan, items: Items) -> Outcome:
        """Return what a plan gives, evaluated now unless it was before.

        Args:
            name: Of the plan, for its files.
            plan: How to steer.
            items: On what.

        Raises:
            InputError: As the tasks raise; as the leak guard.
        """
        key = fingerprint(
            {"context": self._context, "plan": plan.fingerprint, "items": _plain(asdict(items))}
        )
        file = self._folder / "cells" / f"{name}-{items.part}-{key}.json"
        kept = _kept(file)
        if kept is not None:
            return kept
        outcome = self._evaluate(name, plan, items)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(asdict(outcome), default=str), encoding="utf-8")
        return outcome

    def _evaluate(self, name: str, plan: SteeringPlan, items: Items) -> Outcome:
        import lm_eval
        from lm_eval.loggers import EvaluationTracker

        manager = self._manager(items)
        samples = _chosen(manager.load(list(items.tasks))["tasks"], items)
        tracker = EvaluationTracker(output_path=str(self._folder / "results" / name / items.part))
        self._model.steer_by(plan)
        self._model.take_divergence()
        with quick_calls():
            found = lm_eval.simple_evaluate(
                model=self._model,
                tasks=list(items.tasks),
                samples=samples,
                task_manager=manager,
                evaluation_tracker=tracker,
                bootstrap_iters=_BOOTSTRAP,
            )
            answered = found["samples"]
            outcome = Outcome(
                {**found["results"], **found.get("groups", {})},
                {task: items_of(rows) for task, rows in answered.items()},
                {task: _examples(rows) for task, rows in answered.items()},
                self._model.take_divergence(),
            )
            save_results(tracker, found)
        return outcome

    def _manager(self, items: Items) -> Any:
        settings = dict(items.metadata) | {"part": items.part}
        foreign = any(map(needs_defaults, items.tasks))
        key = fingerprint({"settings": settings, "foreign": foreign})
        if key not in self._managers:
            self._managers[key] = task_manager(settings, with_defaults=foreign)
        return self._managers[key]


def _chosen(tasks: Mapping[str, Any], items: Items) -> dict[str, list[int]]:
    """Return which items of each task are evaluated."""
    from lm_eval_trust.tasks.trust_task import TrustTask

    chosen = {}
    for name, task in tasks.items():
        number = len(task.eval_docs)
        own_parts = isinstance(task, TrustTask)
        first, step = (0, 1) if own_parts else (1 if items.part == "validation" else 0, 2)
        chosen[name] = list(range(first, number, step))[: items.limit]
        if not chosen[name]:
            raise InputError(f"{name} has {number} items: too few for a {items.part} part.")
    return chosen


def _examples(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))[:EXAMPLES]
    return [
        {"prompt": str(sample["arguments"][0][0]), "answer": sample["resps"][0][0]}
        for sample in ordered
        if isinstance(sample["resps"][0][0], str)
    ]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _kept(file: Path) -> Outcome | None:
    """Return a finished cell; ``None`` where there is none, or none that is whole."""
    try:
        return Outcome(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None

"""Evaluations that share passes: one loaded model, many ways to steer it, each outcome kept.

It is how the arms of sweeps, rankings, audits and checks are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.engine import TRANSFORMERS
from lm_eval_trust.evaluate.controls import Arm
from lm_eval_trust.evaluate.evaluator import (
    EvaluationSpec,
    Evaluator,
    Outcome,
    evaluate,
    software,
)
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet
from lm_eval_trust.model_wrappers.swept_model import SweptModel
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.grid import Items
from lm_eval_trust.sweep.sweep_model import load_sweep_model

UNSTEERED = "unsteered"
VALIDATION, TEST = "validation", "test"
#: File of a folder in which answers are kept.
ANSWERS = "answers.sqlite"


@dataclass(frozen=True)
class Cell:
    """One evaluation.

    Attributes:
        name: For its files.
        plan: How the model is steered.
        control: What results files say of a control arm.
    """

    name: str
    plan: SteeringPlan
    control: Mapping[str, Any] | None = None


class SharedPasses:
    """Evaluates plans on items with one loaded model.

    Args:
        model: Answers for all plans at once.
        answers: Where its answers are kept.
        folder: Where outcomes and the harness's results files go.
        index: Tasks, with their settings.
    """

    def __init__(
        self, model: SweptModel, answers: KeyedStore, folder: Path, index: TaskIndex
    ) -> None:
        self.model, self.answers, self.index = model, answers, index
        self._folder = folder
        self._evaluator = Evaluator(folder / "cells")

    def tasks(self, items: Items) -> TaskSet:
        """Return the tasks of some items.

        Raises:
            InputError: As the tasks raise.
        """
        return self.index.load(items.tasks, limit=items.limit, part=items.part)

    def evaluate(
        self, cells: Sequence[Cell], items: Items, *, prefixes: Mapping[str, str] | None = None
    ) -> Iterator[Outcome]:
        """Yield what each cell gives, evaluated now unless it was before.

        Args:
            cells: In shared passes.
            items: On what.
            prefixes: Task → text before each of its prompts.

        Raises:
            InputError: As the tasks raise; as the leak guard.
            ExternalError: A judge failed, or the disk refused to write.
        """
        tasks = self.tasks(items)
        plans = {plan.fingerprint: plan for plan in (SteeringPlan(), *(c.plan for c in cells))}
        for cell in cells:
            # Anew for each, since who reads the outcomes may ask for others between them.
            self.model.sweep(list(plans.values()), self.answers)
            spec = EvaluationSpec(
                f"{cell.name}-{items.part}",
                self.model.identity,
                cell.plan.fingerprint,
                tasks,
                prefixes or {},
            )
            yield self._evaluator.outcome(spec, partial(self._run, cell, items, prefixes))

    def arms(
        self, arms: Sequence[Arm], choice: SteeringPlan, tried: int, items: Items, *, prefix: str
    ) -> Iterator[tuple[Arm, Outcome]]:
        """Yield control arms, in their order, with what they give; those that steer share passes.

        Args:
            arms: The arms.
            choice: Whose controls they are.
            tried: Configurations among which that was chosen.
            items: On what.
            prefix: Prefix of their names, for files.
        """
        cells = {
            arm.name: Cell(f"{prefix}{slug(arm.name)}", arm.plan, arm.record(choice, tried))
            for arm in arms
        }
        shared = self.evaluate([cells[arm.name] for arm in arms if not arm.prefixes], items)
        for arm in arms:
            if arm.prefixes:
                (outcome,) = self.evaluate([cells[arm.name]], items, prefixes=arm.prefixes)
            else:
                outcome = next(shared)
            yield arm, outcome

    def _run(self, cell: Cell, items: Items, prefixes: Mapping[str, str] | None) -> Outcome:
        self.model.steer_by(cell.plan)
        self.model.take_divergence()
        self.model.take_broken()
        return evaluate(
            self.model,
            self.tasks(items),
            self._folder / "results" / cell.name / items.part,
            details=lambda: {
                "divergence": self.model.take_divergence(),
                NONFINITE: self.model.take_broken(),
            },
            prefixes=prefixes,
            control=cell.control,
        )


@contextmanager
def shared_passes(
    folder: Path,
    model: str,
    arguments: Mapping[str, Any],
    index: TaskIndex,
    plans: Sequence[SteeringPlan],
    *,
    engine: str = TRANSFORMERS,
    loaded: SweptModel | None = None,
) -> Iterator[SharedPasses]:
    """Load a model that evaluates in shared passes, and keeps its answers in a folder.

    Args:
        folder: The folder.
        model: ``amber``, ``lora_amber`` or ``finetuned_amber``.
        arguments: Its model arguments, without steering.
        index: Tasks.
        plans: Ways to steer that the model has to fit.
        engine: What it runs on.
        loaded: The model, where it is loaded already; afterwards it is as it was.

    Raises:
        InputError: The model does not load, or a plan does not fit.
        ExternalError: The model cannot be fetched, or the disk refused to write.
    """
    swept: SweptModel = loaded or load_sweep_model(model, arguments, engine=engine, plans=plans)
    with swept.lent_to_sweep() if loaded else nullcontext():
        for plan in plans:
            swept.steer_by(plan)
        context = fingerprint({"model": dict(swept.identity), "software": software()})
        with KeyedStore(folder / ANSWERS, context) as answers:
            yield SharedPasses(swept, answers, folder, index)


def slug(name: str) -> str:
    """Return a name as part of a file's."""
    return name.replace(",", "").replace(" ", "-")

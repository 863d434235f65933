"""Evaluations of the demo: each is run once, and found again afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.evaluate.evaluator import EvaluationSpec, Evaluator, Outcome, evaluate
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import STEERING_KEYS, SteeringSpec

#: The embedded models are so small that a batch costs little more than a row.
_BATCH_SIZE = 256


@dataclass(frozen=True)
class Cell:
    """One model, steered or not, on some tasks.

    Attributes:
        name: Name of its folder.
        model: Harness model.
        arguments: Its model arguments.
        tasks: Harness tasks.
    """

    name: str
    model: str
    arguments: Mapping[str, Any]
    tasks: tuple[str, ...]


class CellEvaluator:
    """Evaluates cells and keeps their outcomes.

    Args:
        folder: Where each cell has a folder of its own, with the harness's results file.
        log: File that the harness's own output goes to.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log
        self._evaluator, self._index = Evaluator(folder), TaskIndex({})

    def folder(self, name: str) -> Path:
        """Return where the results of the cell of that name are."""
        return self._folder / name

    def run(self, cell: Cell) -> Outcome:
        """Return what a cell gives, evaluated now unless it was before."""
        tasks = self._index.load(cell.tasks)
        spec = EvaluationSpec(cell.name, _model(cell), _steering(cell), tasks)

        def run() -> Outcome:
            with (
                self._log.open("a", encoding="utf-8") as log,
                contextlib.redirect_stderr(log),
            ):
                return evaluate(
                    cell.model,
                    tasks,
                    self.folder(cell.name),
                    model_args=dict(cell.arguments),
                    batch_size=_BATCH_SIZE,
                    device="cpu",
                )

        return self._evaluator.outcome(spec, run)


def _model(cell: Cell) -> dict[str, Any]:
    """Return the identity of a cell's model, without its steering."""
    found = {"wrapper": cell.model}
    found["model"] = find_source(str(cell.arguments["pretrained"])).identity.text
    if "adapter" in cell.arguments:
        found["adapter"] = find_adapter(str(cell.arguments["adapter"])).identity
    return found


def _steering(cell: Cell) -> str:
    """Return the fingerprint of a cell's steering, that of no steering for a plain model."""
    settings = {k: v for k, v in cell.arguments.items() if k in STEERING_KEYS}
    plan = SteeringSpec.parse(settings).plan() if settings else SteeringPlan()
    return plan.fingerprint

"""Evaluations as cells: each is run once by the harness, and found again afterwards."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.evaluate.harness import quick_calls, save_results, task_manager
from lm_eval_trust.evaluate.paired_items import Item, items_of
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.sources import find_source

Scores = dict[str, dict[str, Any]]
#: The embedded models are so small that a batch costs little more than a row.
_BATCH_SIZE = 256
#: Resamples of the standard errors that have no closed form.
_BOOTSTRAP = 100


@dataclass(frozen=True)
class Cell:
    """One model, steered or not, on some tasks.

    Attributes:
        name: Name of its folder.
        model: Harness model.
        arguments: Its model arguments, without paths.
        tasks: Harness tasks.
    """

    name: str
    model: str
    arguments: Mapping[str, Any]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a cell gave.

    Attributes:
        scores: Task or group → the harness's aggregated metrics.
        items: Task → its items in the order of their ids.
    """

    scores: Scores
    items: dict[str, list[Item]]


class Evaluator:
    """Runs cells with the harness and keeps what they gave.

    Args:
        folder: Where each cell has a folder of its own, with the harness's results file.
        log: File that the harness's own output goes to.
        context: What else the scores depend on, such as the world's seed.
    """

    def __init__(self, folder: Path, log: Path, context: Mapping[str, Any]) -> None:
        self._folder, self._log, self._context = folder, log, dict(context)

    def folder(self, name: str) -> Path:
        """Return where the cell of that name is."""
        return self._folder / name

    def done(self, cell: Cell) -> Outcome | None:
        """Return what a finished cell gave; ``None`` if it is not, or if it was another one."""
        file = self.folder(cell.name) / "cell.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if record.get("fingerprint") != self._fingerprint(cell):
            return None
        return Outcome(record["scores"], record["items"])

    def run(self, cell: Cell) -> Outcome:
        """Return what a cell gives, evaluated now unless it was before."""
        finished = self.done(cell)
        if finished is not None:
            return finished
        outcome = self._evaluate(cell)
        record = {"cell": asdict(cell), "fingerprint": self._fingerprint(cell), **asdict(outcome)}
        with atomic_path(self.folder(cell.name) / "cell.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
        return outcome

    def _fingerprint(self, cell: Cell) -> str:
        identity = find_source(str(cell.arguments["pretrained"])).identity
        adapter = cell.arguments.get("adapter")
        return fingerprint(
            {
                "cell": json.loads(json.dumps(asdict(cell))),
                "model": identity.revision,
                "context": self._context,
            }
            | ({"adapter": find_adapter(str(adapter)).identity} if adapter else {})
        )

    def _evaluate(self, cell: Cell) -> Outcome:
        import lm_eval
        from lm_eval.loggers import EvaluationTracker

        tracker = EvaluationTracker(output_path=str(self.folder(cell.name)))
        with (
            self._log.open("a", encoding="utf-8") as log,
            contextlib.redirect_stderr(log),
            quick_calls(),
        ):
            found = lm_eval.simple_evaluate(
                model=cell.model,
                model_args=dict(cell.arguments),
                tasks=list(cell.tasks),
                batch_size=_BATCH_SIZE,
                device="cpu",
                task_manager=self._task_manager,
                evaluation_tracker=tracker,
                bootstrap_iters=_BOOTSTRAP,
            )
            items = {task: items_of(of_task) for task, of_task in found["samples"].items()}
            save_results(tracker, found)
        scores = {**found["results"], **found.get("groups", {})}
        return Outcome(scores, items)

    @cached_property
    def _task_manager(self) -> Any:
        return task_manager()

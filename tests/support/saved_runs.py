"""Runs of the harness with a scripted model, saved as the harness saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.loggers import EvaluationTracker

from lm_eval_trust.evaluate.lm_eval_internals import quick_calls
from support.harness import Scripted, manager


def save_run(
    folder: Path,
    tasks: list[str],
    answer: Callable[[Instance], str],
    *,
    limit: int | None = None,
    pretrained: str = "owner/scripted",
    **metadata: Any,
) -> tuple[Path, dict[str, Any]]:
    """Run, save, and return the results file and what was found."""
    tracker = EvaluationTracker(output_path=str(folder))
    with quick_calls():
        found = lm_eval.simple_evaluate(
            model=Scripted(answer),
            model_args={"pretrained": pretrained},
            tasks=tasks,
            limit=limit,
            task_manager=manager(**metadata),
            evaluation_tracker=tracker,
        )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    (path,) = folder.rglob("results_*.json")
    return path, found

"""Evaluations by the harness, with a model that is loaded already."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.evaluate.harness import needs_defaults, quick_calls, save_results, task_manager
from lm_eval_trust.mini.world import world_seed
from lm_eval_trust.models.sources import loading_errors

Scores = dict[str, dict[str, Any]]
#: Resamples of the standard errors that have no closed form; the harness takes its own for others.
_BOOTSTRAP = 100


def evaluate(
    model: Any,
    task: str,
    out: Path,
    *,
    limit: int | None,
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> tuple[Scores, dict[str, int]]:
    """Evaluate a loaded model and write the harness's own results and samples files.

    Args:
        model: The harness's model.
        task: A task, group or tag.
        out: Folder of the files.
        limit: Items of a task at most.
        settings: What tasks are told, as by ``--metadata``.
        arguments: What the results file says of the model.

    Returns:
        Task or group → aggregated metrics, and task → number of items evaluated.

    Raises:
        InputError: As the tasks raise.
        ExternalError: The files could not be written.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(out))
    told = json.dumps(dict(settings), sort_keys=True)
    manager = _manager(told, needs_defaults(task), world_seed())
    with quick_calls():
        found = lm_eval.simple_evaluate(
            model=model,
            model_args=dict(arguments),
            tasks=[task],
            batch_size=model.batch_size,
            device=str(model.device),
            limit=limit,
            task_manager=manager,
            evaluation_tracker=tracker,
            bootstrap_iters=_BOOTSTRAP,
        )
    save_results(tracker, found)
    if not list(out.rglob("results_*.json")):
        raise ExternalError(f"The harness could not write its results to {out}; is the disk full?")
    counts = {name: int(n["effective"]) for name, n in found["n-samples"].items()}
    return {**found["results"], **found.get("groups", {})}, counts


@functools.lru_cache(maxsize=8)
def _manager(settings: str, with_defaults: bool, world: int) -> Any:
    """Return an index whose tasks, once loaded, hold rows of the embedded world of this seed."""
    return task_manager(json.loads(settings), with_defaults=with_defaults)


def load_model(
    location: str,
    arguments: Mapping[str, Any],
    *,
    wrapper: str,
    dtype: str,
    device: str,
    batch_size: int,
) -> Any:
    """Load one of our wrappers around a model.

    Args:
        location: Folder, Hub name or name of an embedded model.
        arguments: Further model arguments.
        wrapper: Name of the harness model, e.g. ``amber``.
        dtype: See :func:`lm_eval_trust.models.sources.load_source`.
        device: A torch device.
        batch_size: Of requests.

    Raises:
        InputError: As the wrapper raises.
        ExternalError: Likewise.
    """
    from lm_eval.api.registry import get_model

    from lm_eval_trust.plugin import register_models

    register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with loading_errors(f"a model from {location}"):
        return get_model(wrapper)(
            pretrained=location,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            **arguments,
        )

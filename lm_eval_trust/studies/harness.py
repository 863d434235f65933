"""Evaluations by the harness, with a model that is loaded already."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lm_eval_trust.errors import ExternalError, InputError, unknown_name

Scores = dict[str, dict[str, Any]]
#: Resamples of the standard errors that have no closed form; the harness takes its own for others.
_BOOTSTRAP = 100
_OUR_PREFIX = "trust_"
#: Our groups whose members are the harness's own tasks.
_OF_HARNESS = frozenset(("trust_general",))


def check_tasks(names: Sequence[str]) -> None:
    """Raise unless the harness knows all tasks, groups or tags.

    Raises:
        InputError: One is unknown; the nearest names are told.
    """
    ours = set(_manager("{}", with_harness=False).all_tasks)
    for name in names:
        if name not in ours and name.startswith(_OUR_PREFIX):
            raise unknown_name("task", name, ours)
        if name not in ours:
            known = _manager("{}", with_harness=True).all_tasks
            if name not in known:
                raise unknown_name("task", name, {*known, *ours})


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
    with _environment_described_once(), _one_process():
        found = lm_eval.simple_evaluate(
            model=model,
            model_args=dict(arguments),
            tasks=[task],
            batch_size=model.batch_size,
            device=str(model.device),
            limit=limit,
            task_manager=_manager_for(task, settings),
            evaluation_tracker=tracker,
            bootstrap_iters=_BOOTSTRAP,
        )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for name in found["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    if not list(out.rglob("results_*.json")):
        raise ExternalError(f"The harness could not write its results to {out}; is the disk full?")
    counts = {name: int(n["effective"]) for name, n in found["n-samples"].items()}
    return {**found["results"], **found.get("groups", {})}, counts


def _manager_for(task: str, settings: Mapping[str, Any]) -> Any:
    ours = _manager("{}", with_harness=False).all_tasks
    with_harness = task in _OF_HARNESS or task not in ours
    return _manager(json.dumps(dict(settings), sort_keys=True), with_harness=with_harness)


@functools.lru_cache(maxsize=8)
def _manager(settings: str, *, with_harness: bool) -> Any:
    """Return the harness's index of tasks; its own 14,000 are left out where none is needed."""
    from lm_eval.tasks import TaskManager

    from lm_eval_trust.plugin import register_models, task_path

    register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return TaskManager(
        include_path=str(task_path()), include_defaults=with_harness, metadata=json.loads(settings)
    )


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
        dtype: See :func:`lm_eval_trust.activations.models.load_source`.
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
    try:
        return get_model(wrapper)(
            pretrained=location,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            **arguments,
        )
    except (OSError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Cannot load a model from {location}: {reason}") from error


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """Keep the harness from starting processes of its own to bootstrap in."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextlib.contextmanager
def _environment_described_once() -> Iterator[None]:
    """Let the harness ask for torch's report of the machine once a process: it takes seconds."""
    from torch.utils import collect_env

    asked = collect_env.get_pretty_env_info
    collect_env.get_pretty_env_info = _environment
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = asked


@functools.cache
def _environment() -> str:
    from torch.utils import collect_env

    return str(collect_env.pretty_str(collect_env.get_env_info()))  # type: ignore[no-untyped-call]

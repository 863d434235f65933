"""A whole audit in a folder: plan, load once, measure, judge, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lm_eval_trust.audit.judges import JudgeQuality, judge_quality
from lm_eval_trust.audit.measure import Measured, Plan, measure, plan_audit
from lm_eval_trust.audit.rules import Judged, judge
from lm_eval_trust.audit.settings import Audit
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.evaluate.controls import check_shuffled
from lm_eval_trust.evaluate.evaluator import software
from lm_eval_trust.evaluate.harness import check_tasks
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.model_wrappers.swept_model import SweptModel
from lm_eval_trust.steering.spec import combined_plan, read_steering_file
from lm_eval_trust.sweep.passes import shared_passes
from lm_eval_trust.sweep.run import claim

_MARK = "state.json"
_FORMAT = {"format": 1}


@dataclass(frozen=True)
class Audited:
    """An audit with its result.

    Attributes:
        audit: What was asked, with tasks and suite named.
        plan: What was evaluated.
        measured: What that gave.
        judged: The verdict.
        judges: Tasks' judges, with how well they judge.
        provenance: Where model, vectors and items come from.
        notes: How it ran, where that is unusual.
    """

    audit: Audit
    plan: Plan
    measured: Measured
    judged: Judged
    judges: tuple[JudgeQuality, ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]


def run_audit(audit: Audit, folder: Path, *, loaded: SweptModel | None = None) -> Audited:
    """Run an audit; what the folder contains already is not computed again.

    Args:
        audit: What is audited.
        folder: Where everything goes.
        loaded: The model, where it is loaded already.

    Raises:
        InputError: The steering, the model, a task or a control does not fit; a task holds items
            that the vector was built from; or another audit runs in the folder.
        ExternalError: A model, data or a judge cannot be fetched, or the disk refused to write.
    """
    # Everything that can be refused is refused before gigabytes of weights are loaded.
    steering = read_steering_file(audit.steering)
    check_tasks((*audit.tasks, *audit.suite))
    check_shuffled(audit.controls, steering)
    if not any(spec.alpha for spec in steering):
        raise InputError(f"{audit.steering}: every alpha is 0, so that nothing is steered.")
    with folder_lock(folder, f"Another audit is running in {folder}; choose another folder."):
        claim(folder, _MARK, _FORMAT, what="audit")
        index = TaskIndex(audit.metadata)
        audit = audit.resolved(combined_plan(steering))
        plan = plan_audit(audit, steering, index)
        chosen = (plan.choice,)
        with shared_passes(
            folder, audit.model, audit.arguments, index, chosen, loaded=loaded
        ) as passes:
            measured, model = measure(passes, plan, audit.tried or 1), passes.model
            provenance = _provenance(audit, plan, model)
            notes = (model.note,) if model.note else ()
    judged = judge(audit, plan, measured)
    quality = tuple(judge_quality(plan, measured, audit.demands.confidence))
    return Audited(audit, plan, measured, judged, quality, provenance, notes)


def _provenance(audit: Audit, plan: Plan, model: SweptModel) -> dict[str, Any]:
    tasks = {
        name: {
            "items": len(of.chosen[name]),
            "metric": " and ".join(plan.held.get(name) or (plan.metrics[name],)),
            "settings": _data_settings(task),
        }
        for of in (plan.targets, plan.suite)
        if of is not None
        for name, task in of.tasks.items()
    }
    return {
        "model": {
            "name": audit.model,
            **{k: str(v) for k, v in model.identity["arguments"].items()},
        },
        "steering_file": str(audit.steering),
        "steering": plan.choice.summary(),
        "tried": audit.tried,
        "leak_guard": "off (allow_leak)"
        if model.get_model_info()["allow_leak"]
        else "on: no item that is evaluated "
        "is of a group that the vectors or the model were made from",
        "tasks": tasks,
        "prompts": {each.name: dict(each.prefixes) for each in plan.contexts},
        "software": software(),
        "date": date.today().isoformat(),
    }


def _data_settings(task: Any) -> dict[str, str]:
    metadata = task.config.metadata or {}
    names = ("data_source", "split", "split_seed", "part", "data_fingerprint")
    return {name: str(metadata[name]) for name in names if name in metadata}

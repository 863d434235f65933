"""Whether lm_eval sees our models and tasks."""

from __future__ import annotations

import sys

from lm_eval_trust.doctor.checks import Check, checked
from lm_eval_trust.plugin import MODELS, task_path

SECTION = "harness"


def look() -> list[Check]:
    """Return whether the stock command finds us by itself, our models and our tasks."""
    return [
        _start_up_hook(),
        checked(SECTION, "models", _models),
        checked(SECTION, "tasks", _tasks),
    ]


def _start_up_hook() -> Check:
    from lm_eval_trust import _hook

    if _hook._LmEvalFinder in sys.meta_path:
        detail = "on: `lm_eval` finds our models and tasks"
        return Check(SECTION, "start-up hook", "ok", detail)
    return Check(
        SECTION,
        "start-up hook",
        "note",
        "off in this process (python -S, or a folder on PYTHONPATH without .pth files)",
        "use `lm-eval-trust run ...` in place of `lm_eval run ...`",
    )


def _models() -> Check:
    from lm_eval.api.registry import get_model

    from lm_eval_trust.plugin import register_models

    register_models()
    for name in MODELS:
        get_model(name)
    return Check(SECTION, "models", "ok", ", ".join(MODELS))


def _tasks() -> Check:
    from lm_eval.tasks import TaskManager

    # The built-in tasks stay out: indexing them takes seconds and says nothing about ours.
    manager = TaskManager(include_path=str(task_path()), include_defaults=False)
    if not manager.all_tasks:
        advice = "reinstall lm-eval-trust"
        return Check(SECTION, "tasks", "failed", f"no tasks in {task_path()}", advice)
    groups = ", ".join(sorted(manager.all_groups))
    detail = f"{len(manager.all_subtasks)} tasks; groups {groups}"
    return Check(SECTION, "tasks", "ok", detail)

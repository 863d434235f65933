"""What lm_eval_trust adds to lm_eval: model names and one folder of tasks."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

#: lm_eval model name -> lazy "module:class" target; the same pairs stand in pyproject.toml.
MODELS: dict[str, str] = {
    "amber": "lm_eval_trust.model_wrappers.amber:Amber",
    "steered_amber": "lm_eval_trust.model_wrappers.steered:SteeredAmber",
}


def task_path() -> Path:
    """Return the folder of task YAMLs of this wheel, editable install or checkout."""
    from lm_eval_trust import tasks

    return Path(tasks.__file__).parent


def register_models() -> None:
    """Add our names to lm_eval's model registry; safe to repeat."""
    import lm_eval.models  # noqa: F401  (get_model loads the built-ins only while it is empty)
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def add_task_path(task_manager_cls: Any) -> None:
    """Make ``TaskManager()`` index our tasks after the built-in ones, before the caller's."""
    original = task_manager_cls.__init__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def __init__(
        self: Any,
        verbosity: str | None = None,
        include_path: str | Path | list[str | Path] | None = None,
        include_defaults: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if include_defaults:
            theirs = include_path if isinstance(include_path, (list, tuple)) else [include_path]
            include_path = [task_path(), *(p for p in theirs if p)]
        original(self, verbosity, include_path, include_defaults, metadata)

    task_manager_cls.__init__ = __init__


def attach(module: ModuleType) -> None:
    """Register with an lm_eval module that has just been imported; never break that import."""
    try:
        if module.__name__ == "lm_eval.models":
            register_models()
        else:
            add_task_path(module.TaskManager)
    except Exception as error:
        logger.warning(
            "lm_eval_trust could not attach to %s (%s); use the command lm-eval-trust, or "
            "--include_path %s",
            module.__name__,
            error,
            task_path(),
        )

"""What lm_eval_trust adds to lm_eval: model names and one folder of tasks."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

#: lm_eval model name -> lazy "module:class" target; the same pairs stand in pyproject.toml, for
#: releases of lm_eval that read entry points.
MODELS: dict[str, str] = {
    "amber": "lm_eval_trust.model_wrappers.amber:Amber",
    "finetuned_amber": "lm_eval_trust.model_wrappers.tuned:FinetunedAmber",
    "lora_amber": "lm_eval_trust.model_wrappers.tuned:LoraAmber",
    "proxy_amber": "lm_eval_trust.model_wrappers.proxy:ProxyAmber",
    "steered_amber": "lm_eval_trust.model_wrappers.amber:SteeredAmber",
}

_MARK = "_lm_eval_trust_task_path"


def task_path() -> Path:
    """Return the folder of task YAMLs of this wheel, editable install or checkout."""
    from lm_eval_trust import tasks

    return Path(tasks.__path__[0])


def register_models() -> None:
    """Add our names to lm_eval's model registry, after the built-in ones; safe to repeat.

    A name that is taken stays as it is: a release that reads entry points has put the same
    target there already.
    """
    # get_model loads the built-in models only while the registry is empty: they go first.
    import lm_eval.models  # noqa: F401
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def add_task_path(task_manager_cls: Any) -> None:
    """Make ``TaskManager()`` index our tasks after the built-in ones, before the caller's.

    Safe to repeat. ``include_defaults=False`` stays without our tasks, and a task that the caller
    includes wins over one of ours, as it does over a built-in one.

    Args:
        task_manager_cls: ``lm_eval.tasks.TaskManager``.

    Raises:
        TypeError: The class does not take ``include_path`` and ``include_defaults`` any more.
    """
    original = task_manager_cls.__init__
    if hasattr(original, _MARK):
        return
    ours = task_path()
    signature = inspect.signature(original)
    if not {"include_path", "include_defaults"} <= set(signature.parameters):
        raise TypeError(f"TaskManager takes {signature}, without include_path, include_defaults")

    @functools.wraps(original)
    def __init__(*args: Any, **kwargs: Any) -> None:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        if call.arguments["include_defaults"]:
            theirs = _as_list(call.arguments["include_path"])
            call.arguments["include_path"] = [ours, *theirs]
        original(*call.args, **call.kwargs)

    setattr(__init__, _MARK, True)
    task_manager_cls.__init__ = __init__


def _as_list(include_path: Any) -> list[Any]:
    paths = include_path if isinstance(include_path, (list, tuple)) else [include_path]
    return [path for path in paths if path]


def attach(module: ModuleType) -> None:
    """Register with an lm_eval module that has just been imported."""
    if module.__name__ == "lm_eval.models":
        register_models()
    else:
        add_task_path(module.TaskManager)


def attach_now() -> None:
    """Register with lm_eval at once, for processes without the start-up hook."""
    from lm_eval.tasks.manager import TaskManager

    register_models()
    add_task_path(TaskManager)

"""What lm_eval_trust adds to lm_eval: model names and one folder of tasks."""

from __future__ import annotations

import functools
import inspect
import logging
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

#: lm_eval model name -> lazy "module:class" target; the same pairs stand in pyproject.toml, for
#: releases of lm_eval that read entry points.
MODELS: dict[str, str] = {
    "amber": "lm_eval_trust.model_wrappers.amber:Amber",
    "finetuned_amber": "lm_eval_trust.model_wrappers.tuned:FinetunedAmber",
    "lora_amber": "lm_eval_trust.model_wrappers.tuned:LoraAmber",
    "lora_vllm": "lm_eval_trust.model_wrappers.lora_vllm:LoraVLLM",
    "proxy_amber": "lm_eval_trust.model_wrappers.proxy:ProxyAmber",
    "steered_amber": "lm_eval_trust.model_wrappers.amber:SteeredAmber",
    "steered_vllm": "lm_eval_trust.model_wrappers.steered_vllm:SteeredVLLM",
}
#: Those of them that need vLLM.
INSIDE_VLLM = frozenset({"lora_vllm", "steered_vllm"})

#: Entry-point group of benchmarks.
_BENCHMARKS = "lm_eval_trust.benchmarks"
_MARK = "_lm_eval_trust_task_path"


def task_path() -> Path:
    """Return the folder of task YAMLs of this wheel, editable install or checkout."""
    from lm_eval_trust import tasks

    return Path(tasks.__path__[0])


def task_paths() -> list[Path]:
    """Return the folders of our tasks and of those that other packages' benchmarks bring.

    A package whose tasks cannot be read is named in a warning and left out.
    """
    paths = [task_path()]
    for point in entry_points(group=_BENCHMARKS):
        # Our own benchmarks have their tasks in our folder.
        if point.dist is not None and point.dist.name == "lm-eval-trust":
            continue
        try:
            paths.append(_foreign_tasks(point.name))
        except Exception as error:
            logging.getLogger("lm_eval_trust").warning(
                "The tasks of the benchmark %s are left out: %s", point.name, error
            )
    return paths


def _foreign_tasks(benchmark: str) -> Path:
    """Write the tasks of a benchmark where the harness can read them; return the folder."""
    from lm_eval_trust.benchmarks.registry import BENCHMARKS
    from lm_eval_trust.core.hashing import fingerprint
    from lm_eval_trust.core.storage import build_once, cache_dir

    tasks = dict(BENCHMARKS[benchmark].tasks)
    folder = cache_dir() / "tasks" / f"{benchmark}-{fingerprint(tasks)}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tasks.items():
        build_once(folder / f"{name}.yaml", partial(_write, text))
    return folder


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


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
    signature = inspect.signature(original)
    if not {"include_path", "include_defaults"} <= set(signature.parameters):
        raise TypeError(f"TaskManager takes {signature}, without include_path, include_defaults")

    @functools.wraps(original)
    def __init__(*args: Any, **kwargs: Any) -> None:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        if call.arguments["include_defaults"]:
            theirs = _as_list(call.arguments["include_path"])
            call.arguments["include_path"] = [*task_paths(), *theirs]
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

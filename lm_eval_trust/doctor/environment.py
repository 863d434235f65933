"""Checks of the environment: Python packages, the harness, the cache, the network, the GPU."""

from __future__ import annotations

import platform
import re
import shutil
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from lm_eval_trust import __version__
from lm_eval_trust.benchmarks.files import is_offline
from lm_eval_trust.core.errors import reason_of
from lm_eval_trust.core.storage import CACHE_VARIABLE, atomic_path, cache_dir
from lm_eval_trust.plugin import INSIDE_VLLM, MODELS, task_paths

State = Literal["ok", "note", "failed"]

DISTRIBUTION = "lm-eval-trust"
HUB = ("huggingface.co", 443)
TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and the result.

    Attributes:
        section: Part of the system, e.g. ``data``.
        name: What was checked.
        state: ``ok``; ``note`` for something that is optional, or works in part; ``failed`` for a
            necessary part that does not work.
        detail: The result, with its numbers.
        advice: What to do about it; empty if there is nothing to do.
    """

    section: str
    name: str
    state: State
    detail: str
    advice: str = ""


def checked(section: str, name: str, check: Callable[[], Check]) -> Check:
    """Return the result of ``check``; an exception becomes a failed check."""
    try:
        return check()
    except Exception as error:
        return Check(section, name, "failed", reason_of(error, longest=1000))


def check_software() -> list[Check]:
    """Return one check for Python and this package, and one for each requirement."""
    ours = f"{__version__} on Python {platform.python_version()}"
    required = [_requirement(Requirement(text)) for text in _requirements()]
    return [Check("software", DISTRIBUTION, "ok", ours), *required]


def _requirements() -> list[str]:
    """Return the requirements of the installed distribution, without those of extras."""
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    return [text for text in declared if not re.search(r";.*\bextra\b", text)]


def _requirement(requirement: Requirement) -> Check:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        found = ""
    if found and requirement.specifier.contains(found, prereleases=True):
        return Check("software", requirement.name, "ok", found)
    detail = f"{found or 'not installed'}, needs {requirement.specifier}"
    advice = f"pip install '{requirement.name}{requirement.specifier}'"
    return Check("software", requirement.name, "failed", detail, advice)


def check_harness() -> list[Check]:
    """Return whether the stock ``lm_eval`` command finds our models and tasks."""
    return [
        _start_up_hook(),
        checked("harness", "models", _models),
        checked("harness", "tasks", _tasks),
    ]


def _start_up_hook() -> Check:
    from lm_eval_trust import _hook

    if _hook._LmEvalFinder in sys.meta_path:
        detail = "on: `lm_eval` finds our models and tasks"
        return Check("harness", "start-up hook", "ok", detail)
    return Check(
        "harness",
        "start-up hook",
        "note",
        "off in this process (python -S, or a folder on PYTHONPATH without .pth files)",
        "use `lm-eval-trust run ...` instead of `lm_eval run ...`",
    )


def _models() -> Check:
    from lm_eval.api.registry import get_model

    from lm_eval_trust.plugin import register_models

    register_models()
    usable = [name for name in MODELS if name not in INSIDE_VLLM or find_spec("vllm")]
    for name in usable:
        get_model(name)
    inside = " and ".join(sorted(INSIDE_VLLM))
    lacking = "" if len(usable) == len(MODELS) else f"; {inside} need vLLM"
    return Check("harness", "models", "ok", ", ".join(usable) + lacking)


def _tasks() -> Check:
    from lm_eval.tasks import TaskManager

    # Without the built-in tasks, whose indexing takes seconds.
    folders = task_paths()
    manager = TaskManager(include_path=folders, include_defaults=False)
    if not manager.all_tasks:
        advice = "reinstall lm-eval-trust"
        return Check("harness", "tasks", "failed", f"no tasks in {folders[0]}", advice)
    groups = ", ".join(sorted(manager.all_groups))
    return Check("harness", "tasks", "ok", f"{len(manager.all_subtasks)} tasks; groups {groups}")


def check_machine() -> list[Check]:
    """Return the state of the cache, the Hub and the accelerator."""
    return [
        checked("machine", "cache", _cache),
        _hub(),
        checked("machine", "accelerator", _accelerator),
    ]


def is_reachable(address: tuple[str, int]) -> bool:
    """Tell whether a server accepts a connection within three seconds."""
    try:
        with socket.create_connection(address, timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False


def _cache() -> Check:
    folder = cache_dir()
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    with atomic_path(probe) as temporary:
        temporary.write_text("probe", encoding="utf-8")
    probe.unlink()
    free = shutil.disk_usage(folder).free
    detail = f"{folder}: writable, holds {_megabytes(folder)} MB, {free / 1e9:.0f} GB free"
    return Check("machine", f"cache ({CACHE_VARIABLE})", "ok", detail)


def _megabytes(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def _hub() -> Check:
    name = "Hugging Face Hub"
    advice = "pass folders for models, and set LM_EVAL_TRUST_DATA for data"
    if is_offline():
        return Check("machine", name, "note", "not used: HF_HUB_OFFLINE is set", advice)
    if is_reachable(HUB):
        return Check("machine", name, "ok", f"{HUB[0]} answers")
    return Check("machine", name, "note", f"{HUB[0]} does not answer", advice)


def _accelerator() -> Check:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        detail = f"{torch.cuda.device_count()} × {device.name}, {device.total_memory / 1e9:.0f} GB"
        advice = f"--device cuda --model_args ...,dtype={dtype}"
        return Check("machine", "accelerator", "ok", detail, advice)
    if torch.backends.mps.is_available():
        advice = "--device mps --model_args ...,dtype=float32"
        return Check("machine", "accelerator", "ok", "Apple MPS", advice)
    detail = f"none; torch uses {torch.get_num_threads()} CPU threads"
    advice = "--device cpu --model_args ...,dtype=float32 (half precision is slow on most CPUs)"
    return Check("machine", "accelerator", "note", detail, advice)

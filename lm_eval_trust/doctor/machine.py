"""The cache, the network and the accelerator."""

from __future__ import annotations

import shutil
import socket
import uuid
from pathlib import Path

from lm_eval_trust.benchmarks.files import is_offline
from lm_eval_trust.core.storage import CACHE_VARIABLE, atomic_path, cache_dir
from lm_eval_trust.doctor.checks import Check, checked

SECTION = "machine"
HUB = ("huggingface.co", 443)
TIMEOUT_SECONDS = 3.0


def look() -> list[Check]:
    """Return the state of the cache, the Hub and the accelerator."""
    return [
        checked(SECTION, "cache", _cache),
        _hub(),
        checked(SECTION, "accelerator", _accelerator),
    ]


def is_reachable(address: tuple[str, int]) -> bool:
    """Whether a server answers within three seconds."""
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
    return Check(SECTION, f"cache ({CACHE_VARIABLE})", "ok", detail)


def _megabytes(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def _hub() -> Check:
    name = "Hugging Face Hub"
    advice = "pass folders for models, and set LM_EVAL_TRUST_DATA for data"
    if is_offline():
        return Check(SECTION, name, "note", "not used: HF_HUB_OFFLINE is set", advice)
    if is_reachable(HUB):
        return Check(SECTION, name, "ok", f"{HUB[0]} answers")
    return Check(SECTION, name, "note", f"{HUB[0]} does not answer", advice)


def _accelerator() -> Check:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        detail = f"{torch.cuda.device_count()} × {device.name}, {device.total_memory / 1e9:.0f} GB"
        advice = f"--device cuda --model_args ...,dtype={dtype}"
        return Check(SECTION, "accelerator", "ok", detail, advice)
    if torch.backends.mps.is_available():
        advice = "--device mps --model_args ...,dtype=float32"
        return Check(SECTION, "accelerator", "ok", "Apple MPS", advice)
    detail = f"none; torch uses {torch.get_num_threads()} CPU threads"
    advice = "--device cpu --model_args ...,dtype=float32 (half precision is slow on most CPUs)"
    return Check(SECTION, "accelerator", "note", detail, advice)

"""The repository's four folders as one package, for tools that read sources."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MAPPED = ("analysis", "model_wrappers", "tasks")
_ignored = shutil.ignore_patterns("__pycache__")


@functools.cache
def package_folder() -> Path:
    """Return a folder with the package's sources as the wheel has them, for this process."""
    folder = Path(_temporary().name)
    shutil.copytree(ROOT / "lm_eval_trust", folder / "lm_eval_trust", ignore=_ignored)
    for name in _MAPPED:
        shutil.copytree(ROOT / name, folder / "lm_eval_trust" / name, ignore=_ignored)
    return folder


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    # Kept, so that it is there until the process ends.
    return tempfile.TemporaryDirectory(prefix="lm_eval_trust-docs-")

"""Whether each dimension's data is there, or can be had."""

from __future__ import annotations

import os
from pathlib import Path

from lm_eval_trust.data.files import DATA_VARIABLE, files_of, is_offline, locate
from lm_eval_trust.dimensions import DIMENSIONS, UNIVERSAL, Dimension
from lm_eval_trust.doctor.checks import Check, checked
from lm_eval_trust.doctor.machine import is_reachable
from lm_eval_trust.storage import cache_dir

SECTION = "data"
ORIGINS = (("raw.githubusercontent.com", 443), ("huggingface.co", 443))


def look() -> list[Check]:
    """Return one check for each dimension and for the universal set."""
    fetchable = _can_fetch()
    return [
        checked(SECTION, dimension.name, lambda d=dimension: _dimension(d, fetchable))  # type: ignore[misc]
        for dimension in (*DIMENSIONS, UNIVERSAL)
    ]


def folder() -> Path:
    """Return the folder that files are looked for in, without fetching any."""
    configured = os.environ.get(DATA_VARIABLE)
    return Path(configured) if configured else cache_dir() / "data"


def _can_fetch() -> bool:
    if os.environ.get(DATA_VARIABLE) or is_offline():
        return False
    return all(is_reachable(origin) for origin in ORIGINS)


def _dimension(dimension: Dimension, fetchable: bool) -> Check:
    files = files_of(dimension.benchmark)
    absent = [path for path in files if not (folder() / path).is_file()]
    name = f"{dimension.name} ({dimension.benchmark})"
    if not absent:
        for path in files:
            locate(path)  # raises where a checksum is not the expected one
        return Check(SECTION, name, "ok", f"{len(files)} files in {folder()}")
    if fetchable:
        detail = f"{len(absent)} of {len(files)} files will be fetched on first use"
        return Check(SECTION, name, "note", detail, "lm-eval-trust data fetch")
    return Check(
        SECTION,
        name,
        # The universal set serves vectors only; every other dimension is a task of the suite.
        "failed" if dimension.task else "note",
        f"{folder()} lacks {', '.join(absent)}",
        f"set {DATA_VARIABLE} to a folder that holds it, or unset it and go online for "
        f"`lm-eval-trust data fetch`",
    )

"""Whether each dimension's data is there, or can be had."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from lm_eval_trust.benchmarks.catalogue import CATALOGUE
from lm_eval_trust.benchmarks.dimensions import DIMENSIONS, UNIVERSAL
from lm_eval_trust.benchmarks.files import DATA_VARIABLE, RELEASED, is_offline, locate
from lm_eval_trust.benchmarks.load import SOURCES
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.doctor.checks import Check, State, checked
from lm_eval_trust.doctor.machine import is_reachable

SECTION = "data"
ORIGINS = (("raw.githubusercontent.com", 443), ("huggingface.co", 443))


def look() -> list[Check]:
    """Return one check for each dimension, for the universal set and for the paper's release."""
    fetchable = _can_fetch()
    checks = []
    for dimension in (*DIMENSIONS, UNIVERSAL):
        name = f"{dimension.name} ({dimension.benchmark})"
        # The universal set serves vectors only; every other dimension is a task of the suite.
        lacking: State = "failed" if dimension.task else "note"
        files = needed_files(dimension.benchmark)
        look = functools.partial(_files, name, files, lacking, fetchable)
        checks.append(checked(SECTION, name, look))
    released = [path for path in CATALOGUE if path.startswith(f"{RELEASED}/")]
    name = "the paper's release (data_source=tracingllm)"
    look = functools.partial(_files, name, released, "note", fetchable)
    return [*checks, checked(SECTION, name, look)]


def needed_files(benchmark: str) -> list[str]:
    """Return the files that the official source and the tasks of a benchmark are made from."""
    own = {path for path in CATALOGUE if path.startswith(f"{benchmark}/")}
    return sorted(own | set(SOURCES["official"][benchmark].files))


def folder() -> Path:
    """Return the folder that files are looked for in, without fetching any."""
    configured = os.environ.get(DATA_VARIABLE)
    return Path(configured) if configured else cache_dir() / "data"


def _can_fetch() -> bool:
    if os.environ.get(DATA_VARIABLE) or is_offline():
        return False
    return all(is_reachable(origin) for origin in ORIGINS)


def _files(name: str, files: list[str], lacking: State, fetchable: bool) -> Check:
    absent = [path for path in files if not (folder() / path).is_file()]
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
        lacking,
        f"{folder()} lacks {', '.join(absent)}",
        f"set {DATA_VARIABLE} to a folder that holds it, or unset it and go online for "
        f"`lm-eval-trust data fetch`",
    )

"""What a task was evaluated with: rows compare only where all of it agrees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lm_eval_trust.core.saved_runs import SavedRun

#: Seeds of what is evaluated; rows may hold several of them.
DATA_SEEDS = ("split_seed", "data_seed")
_DATA = ("data_source", "split", "part", "perturbation_rate")
_FINGERPRINT = "data_fingerprint"
#: Settings of judges; a judged task notes `NAME_version` beside.
JUDGES = ("truth_judge", "mini_truth_judge", "toxicity_judge", "mini_toxicity_judge")

Settings = dict[str, Any]
#: Task → the settings of all runs of one row.
RowSettings = Mapping[str, tuple[Settings, ...]]


def settings_of(run: SavedRun) -> dict[str, Settings]:
    """Return for each task what its figures depend on beside the model."""
    return {task: _of_task(run, task) for task in run.results["configs"]}


def without_seeds(settings: Settings) -> Settings:
    """Return what is the same for all seeds of one row."""
    return {k: v for k, v in settings.items() if k not in (*DATA_SEEDS, _FINGERPRINT)}


def conflicts(ours: RowSettings, theirs: RowSettings) -> Iterator[str]:
    """Yield what keeps two rows apart: task, setting, and both values."""
    for task in sorted(set(ours) & set(theirs)):
        found = dict(_different(ours[task], theirs[task]))
        if len(found) > 1:
            found.pop(_FINGERPRINT, None)  # the setting that it follows from says more
        for name, (here, there) in found.items():
            yield f"{task}: {name.replace('_', ' ')} {there}, here {here}"


def _of_task(run: SavedRun, task: str) -> Settings:
    results = run.results
    metadata = (results["configs"][task] or {}).get("metadata") or {}
    counts = (results.get("n-samples") or {}).get(task) or {}
    settings: Settings = {
        "version": (results.get("versions") or {}).get(task),
        "number_of_samples": counts.get("effective"),
        "items_in_the_data": counts.get("original"),
        "few-shot_number": (results.get("n-shot") or {}).get(task),
    }
    # The harness tells every task all metadata; a judged one has noted its judge's version.
    for name in JUDGES:
        if f"{name}_version" in metadata:
            settings[name] = metadata.get(name)
            settings[f"{name}_version"] = metadata[f"{name}_version"]
    if _FINGERPRINT in metadata:
        names = (*_DATA, *DATA_SEEDS, _FINGERPRINT)
        settings |= {name: metadata.get(name) for name in names}
    return settings


def _different(
    ours: Iterable[Settings], theirs: Iterable[Settings]
) -> Iterator[tuple[str, tuple[str, str]]]:
    ours, theirs = tuple(ours), tuple(theirs)
    names = dict.fromkeys(name for settings in (*ours, *theirs) for name in settings)
    for name in names:
        here, there = (
            ", ".join(sorted({str(settings.get(name)) for settings in side}))
            for side in (ours, theirs)
        )
        if here != there:
            yield name, (here, there)

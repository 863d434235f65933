"""Where a row comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from lm_eval_trust.core.saved_runs import JUDGED_FROM, SavedRun
from lm_eval_trust.leaderboard.identity import arguments_of, identity_of
from lm_eval_trust.leaderboard.settings import DATA_SEEDS, JUDGES, settings_of

_TORCH = "PyTorch version: "


def provenance_of(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """Return what a row's runs tell of themselves; the model is told by the first."""
    first = runs[0].results
    config = first.get("config") or {}
    return {
        "model": config.get("model"),
        "model_args": arguments_of(runs[0]),
        "steering": (config.get("steering") or {}).get("steps") or [],
        "built_from": (config.get("steering") or {}).get("built_from") or [],
        "trained_on": config.get("trained_on") or [],
        "fingerprints": _fingerprints(runs),
        "dates": [_date(run) for run in runs],
        "files": [str(run.path) for run in runs],
        "versions": _versions(first),
        "git_hash": first.get("git_hash"),
        "judges": judges_of(runs),
        "judged_from": first.get(JUDGED_FROM),
        "seeds": [seeds_of(run) for run in runs],
        "limit": config.get("limit"),
        "gen_kwargs": config.get("gen_kwargs"),
        "chat_template_sha": first.get("chat_template_sha"),
    }


def judges_of(runs: Sequence[SavedRun]) -> dict[str, dict[str, Any]]:
    """Return the judges of the row's tasks: setting → judge, version, calibration."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for config in run.results["configs"].values():
            metadata = (config or {}).get("metadata") or {}
            for name in JUDGES:
                if f"{name}_version" in metadata:
                    found[name] = {
                        "judge": metadata.get(name),
                        "version": metadata[f"{name}_version"],
                        "calibration": metadata.get(f"{name}_calibration"),
                    }
    return found


def seeds_of(run: SavedRun) -> dict[str, Any]:
    """Return a run's seeds: the harness's, the model's, and those of the data."""
    data = {
        f"data.{name}": settings[name]
        for settings in settings_of(run).values()
        for name in DATA_SEEDS
        if name in settings
    }
    return {**identity_of(run).seeds, **data}


def _versions(results: Mapping[str, Any]) -> dict[str, Any]:
    lines = str(results.get("pretty_env_info") or "").splitlines()
    torch = next((line.removeprefix(_TORCH) for line in lines if line.startswith(_TORCH)), None)
    return {
        "lm_eval": results.get("lm_eval_version"),
        "transformers": results.get("transformers_version"),
        "torch": torch,
    }


def _date(run: SavedRun) -> str:
    seconds = run.results.get("date")
    if not isinstance(seconds, (int, float)):
        return run.date
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _fingerprints(runs: Sequence[SavedRun]) -> list[str]:
    given = ((run.results.get("config") or {}).get("trust_fingerprint") for run in runs)
    return list(dict.fromkeys(str(mark) for mark in given if mark))

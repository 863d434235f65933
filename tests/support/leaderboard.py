"""Runs as the harness leaves them, whose every figure is planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lm_eval_trust.core.saved_runs import SavedRun, read_run, write_run

#: Task → the metrics that each item has, in the harness's names.
METRICS: Mapping[str, tuple[str, ...]] = {
    "trust_truthfulqa": ("truth_info", "truth", "info", "trust_score"),
    "trust_toxigen": ("toxic_ratio",),
    "trust_confaide": ("acc", "trust_score"),
    "trust_stereoset": ("acc", "trust_score"),
    "trust_sst2": ("acc", "trust_score"),
    "arc_challenge": ("acc",),
    "race": ("acc",),
}
_DATE = "2026-01-02T03-04-{:09.6f}"
Values = Sequence[float]


def plant(
    folder: Path,
    tasks: Mapping[str, Values],
    *,
    model: str = "hf",
    arguments: Mapping[str, Any] | str = "pretrained=owner/plain",
    groups: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    save_samples: bool = True,
    metadata: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    second: float = 0.0,
    **top: Any,
) -> SavedRun:
    """Write a run whose tasks have these values of all their metrics, item by item."""
    results: dict[str, Any] = {
        "results": {},
        "group_subtasks": {},
        "configs": {},
        "versions": {},
        "n-shot": {},
        "higher_is_better": {},
        "n-samples": {},
        "config": {"model": model, "model_args": arguments, "limit": None, **(config or {})},
        "date": 1767323045.0 + second,
        "git_hash": "abc1234",
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.24.0",
        "pretty_env_info": "PyTorch version: 2.13.0\nOS: Debian",
        "model_name": "owner/plain",
    }
    samples = {}
    for task, values in tasks.items():
        names = METRICS.get(task, ("acc",))
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else "N/A"
        results["results"][task] = {"alias": task}
        for name in names:
            results["results"][task] |= {f"{name},none": fmean(values)}
            results["results"][task] |= {f"{name}_stderr,none": error}
        results["configs"][task] = {
            "metric_list": [{"metric": name} for name in names],
            "metadata": {"version": 1.0, **(metadata or {})},
        }
        results["versions"][task], results["n-shot"][task] = 1.0, 0
        results["higher_is_better"][task] = {name: name != "toxic_ratio" for name in names}
        results["n-samples"][task] = {"original": 100, "effective": len(values)}
        samples[task] = [
            _sample(i, value, names, groups, categories) for i, value in enumerate(values)
        ]
    for name, value in top.items():
        key = name.replace("_", "-") if name.startswith("n_") else name
        known = results.get(key)
        results[key] = {**known, **value} if isinstance(known, dict) else value
    date = _DATE.format(second)
    return read_run(write_run(folder, date, results, samples if save_samples else {}))


def _sample(
    position: int,
    value: float,
    names: Sequence[str],
    groups: Sequence[str] | None,
    categories: Sequence[str] | None,
) -> dict[str, Any]:
    doc = {"text": f"Item {position} of Arvel."}
    if groups:
        doc["group_id"] = groups[position]
    if categories:
        doc["category"] = categories[position]
    return {
        "doc_id": position,
        "doc": doc,
        "filter": "none",
        "metrics": list(names),
        "doc_hash": f"hash{position}",
        **{name: value for name in names},
    }

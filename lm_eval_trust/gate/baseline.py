"""Baseline files: the scores of the checked model that were last reviewed.

A baseline belongs under version control: it is sorted, and not rewritten if nothing has changed.
Items are identified by the hashes of their documents, so later measurements can be paired with
them one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval_trust import __version__
from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.evaluate.measurement import Measurement, Value, is_number, is_pair

FORMAT = 1


@dataclass(frozen=True)
class Baseline:
    """The content of a baseline file.

    Attributes:
        path: The file.
        measurements: Task → measurement, with the metrics of rules only.
    """

    path: Path
    measurements: Mapping[str, Measurement]

    def of(self, task: str, metric: str) -> Measurement:
        """Return the measurement of a task.

        Raises:
            InputError: There is none, or it lacks the metric.
        """
        found = self.measurements.get(task)
        if found is None or metric not in found.scores:
            raise InputError(
                f"{self.path} holds no {metric} of {task}; run `lm-eval-trust check "
                f"--update-baseline` and review the file."
            )
        return found


def baseline_path(config: Path) -> Path:
    """Return the path of a check's baseline."""
    return config.with_suffix(".baseline.json")


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        InputError: There is none, or the file is not a baseline.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"There is no baseline {path}; make it with `lm-eval-trust check --update-baseline`."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a baseline: {reason_of(error)}.") from error
    try:
        found, tasks = record["format"], record["tasks"].items()
        if found == FORMAT:
            return Baseline(path, {name: _measurement(name, task) for name, task in tasks})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not a baseline: {error!r}.") from error
    raise InputError(f"{path} has format {found!r}; this release reads {FORMAT}.")


def write_baseline(
    path: Path, model: Mapping[str, Any], found: Mapping[str, tuple[Measurement, Sequence[str]]]
) -> bool:
    """Write a baseline, unless the file has the same content already.

    Args:
        path: The file.
        model: Identity of the measured model.
        found: Task → measurement and the metrics to keep.

    Returns:
        Whether it was written.

    Raises:
        ExternalError: The file cannot be written.
    """
    record = {
        "format": FORMAT,
        "model": dict(model),
        "tasks": {name: _record(*found[name]) for name in sorted(found)},
    }
    if _content(path) == json.loads(json.dumps(record)):
        return False
    written = {
        **record,
        "date": date.today().isoformat(),
        "versions": {"lm_eval": version("lm_eval"), "lm_eval_trust": __version__},
    }
    with atomic_path(path) as temporary:
        text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return True


def _content(path: Path) -> dict[str, Any] | None:
    """Return a baseline file's model and scores, without date and versions; ``None`` for others."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict):
        return None
    return {key: record.get(key) for key in ("format", "model", "tasks")}


def _record(measured: Measurement, metrics: Sequence[str]) -> dict[str, Any]:
    items = {}
    for position, (identity, group) in enumerate(zip(measured.ids, measured.groups, strict=True)):
        values: dict[str, Any] = {m: measured.values[m][position] for m in metrics}
        items[identity] = values if group == identity else {**values, "group": group}
    return {
        "version": measured.version,
        "meaning": measured.meaning,
        "metrics": {
            metric: {
                "score": measured.scores[metric],
                "higher_is_better": measured.higher_is_better.get(metric),
                "aggregation": measured.aggregations[metric],
            }
            for metric in sorted(metrics)
        },
        "items": items,
    }


def _measurement(name: str, task: Mapping[str, Any]) -> Measurement:
    metrics, items = task["metrics"], task["items"]
    return Measurement(
        task=name,
        version=task["version"],
        meaning=dict(task["meaning"]),
        higher_is_better={
            m: each["higher_is_better"]
            for m, each in metrics.items()
            if each["higher_is_better"] is not None
        },
        aggregations={m: each["aggregation"] for m, each in metrics.items()},
        scores={m: float(each["score"]) for m, each in metrics.items()},
        ids=list(items),
        groups=[item.get("group", identity) for identity, item in items.items()],
        values={m: _values(items.values(), m) for m in metrics},
    )


def _values(items: Iterable[Mapping[str, Any]], metric: str) -> list[Value]:
    values = [item[metric] for item in items]
    known = [value for value in values if value is not None]
    if not (all(map(is_number, known)) or all(map(is_pair, known))):
        raise TypeError(f"values of {metric} are neither numbers nor pairs of numbers")
    return values

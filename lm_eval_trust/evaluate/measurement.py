"""What a model scored on a task: each item's values, with what makes two of them comparable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.inspect_logs import SETTINGS
from lm_eval_trust.core.nonfinite import (
    has_nonfinite,
    in_words,
    nonfinite_items,
    undefined_in_words,
)
from lm_eval_trust.evaluate.paired_items import Item, group_of
from lm_eval_trust.judges.correction import is_corrected

#: Fields of benchmarks' rows that hold an item's categories → what those are called.
CATEGORIES: Mapping[str, str] = {
    "target_groups": "target group",
    "bias_type": "bias type",
    "category": "category",
    "subject": "subject",
}
#: A number, a log-likelihood with the number of words that it is of, or nothing.
Value = float | list[float] | None
#: Settings of tasks that decide what a score means.
_MEANING = ("_judge_fingerprint", "data_fingerprint")
_PLAIN_FILTER = "none"


@dataclass(frozen=True)
class Measurement:
    """One task's items under one model.

    Attributes:
        task: Name.
        version: Version of the task.
        meaning: Further settings that have to agree before two are compared: data, judge, shots.
        higher_is_better: Metric → direction, where the task tells it.
        aggregations: Metric → name of the harness's aggregation; empty where that has none.
        scores: Metric → the harness's aggregated value.
        ids: IDs of the items: hashes of their documents.
        groups: Group of each item.
        values: Metric → value of each item.
        positions: Positions of the items among the task's documents.
        nonfinite: Number of items with a log-likelihood or a score that is NaN or infinite.
        categories: Categories of each item; of one kind, or none.
    """

    task: str
    version: str
    meaning: dict[str, str]
    higher_is_better: dict[str, bool]
    aggregations: dict[str, str]
    scores: dict[str, float]
    ids: list[str]
    groups: list[str]
    values: dict[str, list[Value]]
    positions: list[int] = field(default_factory=list)
    nonfinite: int = 0
    categories: list[list[str]] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """The items as paired comparisons take them: id, group, and each numeric metric."""
        return [
            {"id": position, "group": self._group(i, position)}
            | {m: v[i] for m, v in self.values.items() if isinstance(v[i], float)}
            for i, position in enumerate(self.positions)
        ]

    def broken(self, metric: str) -> int:
        """Return the number of items that make a metric meaningless, since they are not finite.

        A NaN counts as a missing value where the metric's aggregation leaves it out. It is at
        least 1 where the metric itself is not finite.
        """
        return max(self._broken_items(metric), int(has_nonfinite(self.scores[metric])))

    def _broken_items(self, metric: str) -> int:
        values = self.values.get(metric, [])
        if self.aggregations.get(metric) == "nanmean":
            values = [value for value in values if value == value]
        return max(self.nonfinite, sum(map(has_nonfinite, values)))

    def doubt(self, metric: str) -> str:
        """Return why a metric means nothing; empty where it means something."""
        if broken := self._broken_items(metric):
            return in_words(broken, len(self.ids), self.task)
        score = self.scores[metric]
        if math.isnan(score):
            return undefined_in_words([metric], self.task, self.scores)
        return f"{metric} of {self.task} is {score}." if math.isinf(score) else ""

    def _group(self, i: int, position: int) -> str:
        """Return an item's group; an item without one is a group of its own."""
        alone = self.ids[i].partition("-")[0] == self.groups[i]
        return str(position) if alone else self.groups[i]

    def has(self, name: str) -> bool:
        """Tell whether there is such a metric, with its filter or without."""
        return any(name in (key, key.partition(",")[0]) for key in self.scores)

    def metric(self, name: str) -> str:
        """Return the full name of a metric, with its filter where the task has several.

        Raises:
            InputError: There is no such metric, or the filter is not told.
        """
        if name in self.scores:
            return name
        found = [key for key in self.scores if key.partition(",")[0] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{self.task} has {name} after several filters; write {' or '.join(found)}."
            )
        raise unknown_name(f"metric of {self.task}", name, self.scores)


def measurement_of(
    task: str, found: Mapping[str, Any], aggregations: Mapping[str, str]
) -> Measurement:
    """Return the measurement of a task, from what ``simple_evaluate`` returned.

    Args:
        task: Its name.
        found: Results, configurations, versions and samples.
        aggregations: Metric → name of the task's aggregation function.

    Returns:
        It; the score of a metric that no item has a value of is NaN.
    """
    samples = sorted(found["samples"][task], key=lambda sample: int(sample["doc_id"]))
    filters = list(dict.fromkeys(str(sample["filter"]) for sample in samples))
    by_filter = {name: [s for s in samples if s["filter"] == name] for name in filters}
    rows = by_filter[filters[0]]
    results = found["results"][task]
    given = {name: {m: None for row in by_filter[name] for m in row["metrics"]} for name in filters}
    metrics = {
        _key(metric, name): (metric, name)
        for name, of_rows in given.items()
        # The harness leaves out of its results what no item has a value of.
        for metric in of_rows | dict.fromkeys(aggregations)
        if (f"{metric},{name}" in results or metric not in of_rows) and not is_corrected(metric)
    }
    directions = found["higher_is_better"][task]
    return Measurement(
        task=task,
        version=str(found["versions"][task]),
        meaning=_meaning(found["configs"][task], found["n-shot"].get(task)),
        higher_is_better={
            k: bool(directions[m]) for k, (m, _) in metrics.items() if directions.get(m) is not None
        },
        aggregations={k: aggregations.get(m, "") for k, (m, _) in metrics.items()},
        scores={k: float(results.get(f"{m},{n}", math.nan)) for k, (m, n) in metrics.items()},
        ids=list(_distinct(str(row["doc_hash"])[:16] for row in rows)),
        groups=[_group(row) for row in rows],
        positions=[int(row["doc_id"]) for row in rows],
        values={
            key: [_value(row.get(metric)) for row in by_filter[name]]
            for key, (metric, name) in metrics.items()
        },
        nonfinite=nonfinite_items(samples, found["configs"][task]),
        categories=[list(categories_of(row.get("doc"))[1]) for row in rows],
    )


def _key(metric: str, filter_name: str) -> str:
    return metric if filter_name == _PLAIN_FILTER else f"{metric},{filter_name}"


def _meaning(config: Mapping[str, Any], shots: Any) -> dict[str, str]:
    metadata = config.get("metadata") or {}
    told = {key: str(value) for key, value in metadata.items() if key.endswith(_MEANING)}
    told |= {key: str(value) for key, value in (metadata.get(SETTINGS) or {}).items()}
    return {**dict(sorted(told.items())), "shots": str(shots)}


def _distinct(hashes: Iterable[str]) -> Iterable[str]:
    """Tell documents apart that are the same to the letter."""
    seen: Counter[str] = Counter()
    for each in hashes:
        seen[each] += 1
        yield each if seen[each] == 1 else f"{each}-{seen[each]}"


def categories_of(document: object) -> tuple[str, tuple[str, ...]]:
    """Return what a document's categories are called, and the categories; empty if it has none."""
    row: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    for name, kind in CATEGORIES.items():
        given = row.get(name)
        listed = given if isinstance(given, list) else [given]
        told = tuple(dict.fromkeys(str(each) for each in listed if isinstance(each, str) and each))
        if told:
            return kind, told
    return "", ()


def _group(sample: Mapping[str, Any]) -> str:
    return group_of(sample.get("doc")) or str(sample["doc_hash"])[:16]


def _value(value: Any) -> Value:
    if is_number(value):
        return float(value)
    return [float(part) for part in value] if is_pair(value) else None


def is_number(value: object) -> bool:
    """Tell whether something is a number, or a truth value, of Python or of NumPy."""
    return isinstance(value, (Real, np.bool_))


def is_pair(value: object) -> bool:
    """Tell whether something is two numbers: a log-likelihood, and the number of its words."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))

"""What each item scored, from the samples of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.saved_runs import Sample, SavedRun
from lm_eval_trust.evaluate.paired_items import items_of
from lm_eval_trust.leaderboard.board import Column
from lm_eval_trust.leaderboard.settings import DATA_SEEDS, settings_of

#: Fields of a benchmark's rows that say to which category an item belongs, and what that is called.
CATEGORIES: Mapping[str, str] = {
    "target_groups": "target group",
    "bias_type": "bias type",
    "category": "category",
    "subject": "subject",
}


class Value(NamedTuple):
    """A metric of one item.

    Attributes:
        value: As the harness scored it, or its mean over seeds.
        group: Items of one group are drawn together.
        kind: What the item's categories are; empty where it has none.
        categories: Those that it belongs to.
    """

    value: float
    group: str
    kind: str
    categories: tuple[str, ...]


class _Item(NamedTuple):
    key: str
    group: str
    kind: str
    categories: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass
class Samples:
    """Reads the samples of runs, each file once."""

    _read: dict[tuple[str, str, str], list[_Item]] = field(default_factory=dict)

    def read(self, run: SavedRun) -> None:
        """Read all samples of a run.

        Raises:
            InputError: Samples are damaged, or others than were evaluated.
        """
        for task in run.tasks:
            if not any(path == str(run.path) and of == task for path, of, _ in self._read):
                self._read.update(self._load(run, task))

    def values(self, run: SavedRun, task: str, column: Column) -> dict[str, Value]:
        """Return identity of an item → its value of a column's metric; empty without samples.

        Raises:
            InputError: As :meth:`read`.
        """
        return {
            item.key: Value(
                float(item.values[column.metric]), item.group, item.kind, item.categories
            )
            for item in self._items(run, task, column.filter)
            if _finite(item.values.get(column.metric))
        }

    def _items(self, run: SavedRun, task: str, filter_name: str) -> list[_Item]:
        place = (str(run.path), task, filter_name)
        if place not in self._read:
            exists = run.samples_file(task).exists()
            self._read.update(self._load(run, task) if exists else {})
            self._read.setdefault(place, [])
        return self._read[place]

    def _load(self, run: SavedRun, task: str) -> dict[tuple[str, str, str], list[_Item]]:
        samples, settings = run.samples(task), settings_of(run).get(task, {})
        file = run.samples_file(task)
        seeds = fingerprint({name: settings.get(name) for name in DATA_SEEDS})
        by_filter: dict[str, list[Sample]] = {}
        for sample in samples:
            by_filter.setdefault(str(sample.get("filter", "none")), []).append(sample)
        expected = settings.get("number_of_samples")
        for of_filter in by_filter.values() or [[]]:
            if expected is not None and len(of_filter) != expected:
                raise InputError(
                    f"{file} holds {len(of_filter)} samples where the results "
                    f"tell of {expected}; it is damaged or of another run."
                )
        try:
            return {
                (str(run.path), task, name): _items(of_filter, f"{task}/{seeds}")
                for name, of_filter in by_filter.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} is not a file of the harness's samples: {error}") from error


def _items(samples: Sequence[Sample], where: str) -> list[_Item]:
    found = []
    for sample, item in zip(samples, items_of(samples), strict=True):
        document = sample.get("doc")
        kind, categories = _categories(document if isinstance(document, Mapping) else {})
        identity = sample.get("doc_hash") or ""
        values = {name: item[name] for name in sample["metrics"] if name in item}
        found.append(
            _Item(
                f"{where}/{item['id']}/{identity}",
                f"{where.partition('/')[0]}/{item['group']}",
                kind,
                categories,
                values,
            )
        )
    return found


def _categories(document: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    for name, kind in CATEGORIES.items():
        given = document.get(name)
        listed = given if isinstance(given, list) else [given]
        told = tuple(dict.fromkeys(str(each) for each in listed if isinstance(each, str) and each))
        if told:
            return kind, told
    return "", ()


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)

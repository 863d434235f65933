"""What each item scored: a run's samples as the strata of a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lm_eval_trust.errors import InputError
from lm_eval_trust.hashing import fingerprint
from lm_eval_trust.items import items_of
from lm_eval_trust.leaderboard.board import Column
from lm_eval_trust.leaderboard.layout import leaves, numbers
from lm_eval_trust.leaderboard.settings import DATA_SEEDS, settings_of
from lm_eval_trust.saved_runs import Sample, SavedRun

#: Fields of a benchmark's rows that say to which category an item belongs, and what that is called.
CATEGORIES: Mapping[str, str] = {
    "target_groups": "target group",
    "bias_type": "bias type",
    "category": "category",
    "subject": "subject",
}
#: The harness rounds nothing; only the order of adding up may differ.
_SAME = 1e-6


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


@dataclass(frozen=True)
class Stratum:
    """Items of a column that are averaged plainly.

    Attributes:
        weight: Of their mean in the column's figure; a column's weights add up to 1.
        items: Identity of an item → its value.
    """

    weight: float
    items: Mapping[str, Value]


Strata = tuple[Stratum, ...]


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

    def strata(self, runs: Iterable[SavedRun], column: Column) -> Strata | None:
        """Return the items behind a row's figure, values averaged over its seeds.

        ``None`` where samples were not saved, or the figure is no mean over them (a perplexity,
        an F1 score).

        Raises:
            InputError: Samples are damaged, or fewer than were evaluated.
        """
        having = [
            run for run in runs if (column.metric, column.filter) in numbers(run, column.task)
        ]
        found = [self._of_run(run, column) for run in having]
        whole = [strata for strata in found if strata is not None]
        if not whole or len(whole) < len(found):
            return None
        return _merged(whole)

    def _of_run(self, run: SavedRun, column: Column) -> Strata | None:
        tasks = leaves(run, column.task)
        by_task = [self._values(run, task, column) for task in tasks]
        present = [values for values in by_task if values]
        if len(present) < len(tasks):
            return None
        figure = numbers(run, column.task)[column.metric, column.filter]
        pooled = {key: value for values in present for key, value in values.items()}
        if _agree(_mean(pooled.values()), figure):
            return (Stratum(1.0, pooled),)
        means = [_mean(values.values()) for values in present]
        if _agree(sum(means) / len(means), figure):
            return tuple(Stratum(1 / len(present), values) for values in present)
        return None

    def _values(self, run: SavedRun, task: str, column: Column) -> dict[str, Value]:
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


def averaged(columns: Sequence[Strata]) -> Strata:
    """Return the strata of the plain mean of several columns."""
    share = 1 / len(columns)
    return tuple(Stratum(s.weight * share, s.items) for strata in columns for s in strata)


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


def _merged(runs: Sequence[Strata]) -> Strata | None:
    """Return strata whose items are averaged over runs; ``None`` if runs have other strata."""
    if len({len(strata) for strata in runs}) > 1:
        return None
    merged = []
    for same in zip(*runs, strict=True):
        by_key: dict[str, list[Value]] = {}
        for stratum in same:
            for key, value in stratum.items.items():
                by_key.setdefault(key, []).append(value)
        items = {
            key: values[0]._replace(value=_mean(values)) if len(values) > 1 else values[0]
            for key, values in by_key.items()
        }
        merged.append(Stratum(same[0].weight, items))
    return tuple(merged)


def _mean(values: Iterable[Value]) -> float:
    numbers = [value.value for value in values]
    return sum(numbers) / len(numbers)


def _agree(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)

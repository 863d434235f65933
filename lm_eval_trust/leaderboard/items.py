"""Per-item values of a row, from its samples, grouped the way its score averages them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from lm_eval_trust.analysis.derived import icat_by_term, icat_products
from lm_eval_trust.benchmarks.xstest import SHARES
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.plain import is_finite
from lm_eval_trust.core.saved_runs import Sample, SavedRun
from lm_eval_trust.evaluate.measurement import categories_of
from lm_eval_trust.evaluate.paired_items import items_of
from lm_eval_trust.leaderboard.board import Column
from lm_eval_trust.leaderboard.consistency import (
    SAME,
    broken_items,
    check_scores,
    nonfinite_note,
)
from lm_eval_trust.leaderboard.identity import DATA_SEEDS, settings_of
from lm_eval_trust.leaderboard.layout import leaves, numbers
from lm_eval_trust.tasks.metrics import icat

#: Name of StereoSet's combined score, which is a function of means over target terms.
ICAT = icat.__name__


class Value(NamedTuple):
    """One item's value of a metric.

    Attributes:
        value: The harness's score, or its mean over seeds.
        group: Items of one group are resampled together.
        kind: What the item's categories are called; empty if it has none.
        categories: The item's categories.
        products: Of ICAT, the term's values in both products, the smaller of which ``value`` is.
    """

    value: float
    group: str
    kind: str
    categories: tuple[str, ...]
    products: tuple[float, ...] = ()


class _Item(NamedTuple):
    key: str
    group: str
    kind: str
    categories: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass
class Samples:
    """Reads runs' samples, each file once."""

    _read: dict[tuple[str, str, str], list[_Item]] = field(default_factory=dict)
    _nonfinite: dict[tuple[str, str], str] = field(default_factory=dict)
    _broken: set[tuple[str, str]] = field(default_factory=set)

    def read(self, run: SavedRun) -> None:
        """Read all samples of a run.

        Raises:
            InputError: Samples are damaged, or not those that were evaluated.
        """
        for task in run.tasks:
            if not any(path == str(run.path) and of == task for path, of, _ in self._read):
                self._read.update(self._load(run, task))

    def values(self, run: SavedRun, task: str, column: Column) -> dict[str, Value]:
        """Return an item's identity → its value of a column's metric; empty without samples.

        Of ICAT, target terms take the place of items.

        Raises:
            InputError: As :meth:`read`.
        """
        if column.metric == ICAT and (of_terms := self._terms(run, task, column)):
            return of_terms
        return {
            item.key: Value(float(item.values[column.metric]), item.group, *_place(item, column))
            for item in self._items(run, task, column.filter)
            if is_finite(item.values.get(column.metric))
        }

    def _terms(self, run: SavedRun, task: str, column: Column) -> dict[str, Value]:
        """Return a target term's identity → its value, whose mean over terms is ICAT.

        Terms are the same only where all items are.
        """
        found = [
            (item.key, item.values[column.metric])
            for item in self._items(run, task, column.filter)
            if isinstance(item.values.get(column.metric), (list, tuple))
        ]
        if not found:
            return {}
        terms, language, stereotype = zip(*(scores for _, scores in found), strict=True)
        items = content_id(*sorted(key for key, _ in found))
        products = icat_products(language, stereotype, terms)
        return {
            f"{task}/{items}/{term}": Value(value, f"{task}/{term}", "", (), products[term])
            for term, value in icat_by_term(language, stereotype, terms).items()
        }

    def count(self, run: SavedRun, column: Column) -> int | None:
        """Return how many items of a run have a value of a column's metric; ``None`` if unknown."""
        items = self._items(run, column.task, column.filter)
        return sum(item.values.get(column.metric) is not None for item in items) or None

    def notes(self, run: SavedRun) -> list[str]:
        """Return which tasks of a run have items that are not finite."""
        found = (
            self._nonfinite.get((str(run.path), task)) or nonfinite_note(run, task, ())
            for task in run.results["configs"]
        )
        return [note for note in found if note is not None]

    def means_nothing(self, run: SavedRun, column: Column) -> bool:
        """Tell whether a score rests on log-likelihoods or scores of items that are not finite.

        Raises:
            InputError: As :meth:`read`.
        """
        return any(self._is_broken(run, t, column.filter) for t in leaves(run, column.task))

    def _is_broken(self, run: SavedRun, task: str, filter_name: str) -> bool:
        self._items(run, task, filter_name)  # reads the samples, where they were saved
        return (str(run.path), task) in self._broken or broken_items(run, task, ()) > 0

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
                    f"{file} holds {len(of_filter)} samples, but the results are of {expected}; "
                    f"it is damaged or belongs to another run."
                )
        check_scores(run, task, by_filter)
        if note := nonfinite_note(run, task, samples):
            self._nonfinite[str(run.path), task] = note
        if broken_items(run, task, samples):
            self._broken.add((str(run.path), task))
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
        kind, categories = categories_of(sample.get("doc"))
        identity = sample.get("doc_hash") or ""
        values = {name: sample.get(name) for name in sample["metrics"]}
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


def _place(item: _Item, column: Column) -> tuple[str, tuple[str, ...]]:
    """Return what an item's categories are called, and the categories.

    The mean of two shares weighs each item by its kind, so the mean of some items is no share: only
    the shares themselves are shown by category.
    """
    weighted = column.metric == "trust_score" and set(SHARES.values()) <= item.values.keys()
    return ("", ()) if weighted else (item.kind, item.categories)


ByTask = Sequence[Mapping[str, Value]]


@dataclass(frozen=True)
class Stratum:
    """Items of a column that are averaged with equal weights.

    Attributes:
        weight: Weight of their mean in the column's score; a column's weights add up to 1.
        items: Identity of an item → its value.
    """

    weight: float
    items: Mapping[str, Value]


Strata = tuple[Stratum, ...]
Scheme = Callable[[ByTask], Strata]


def pooled(by_task: ByTask) -> Strata:
    """Return all items as one stratum: tasks are weighted by their number of items."""
    return (Stratum(1.0, {key: value for values in by_task for key, value in values.items()}),)


def task_by_task(by_task: ByTask) -> Strata:
    """Return a stratum for each task, with equal weights."""
    return tuple(Stratum(1 / len(by_task), values) for values in by_task)


#: The harness's two ways to aggregate a group (``weight_by_size``); results do not say which.
_SCHEMES: tuple[Scheme, ...] = (pooled, task_by_task)


def strata_of(
    rows: Mapping[str, Iterable[SavedRun]], column: Column, samples: Samples
) -> dict[str, Strata]:
    """Return the items behind each row's score in a column, values averaged over seeds.

    A way of averaging fits a row if it reproduces its runs' scores from their items; the column
    takes the way that fits more rows. Rows are left out if their samples were not saved, or if
    their score is not a mean over items (a perplexity, an F1 score).

    Args:
        rows: Name of a row → its runs.
        column: Column of the score.
        samples: Reads them.

    Raises:
        InputError: Samples are damaged, or not those that were evaluated.
    """
    items = {name: _by_run(runs, column, samples) for name, runs in rows.items()}
    found = [
        {
            name: _merged([scheme(by_task) for _, by_task in runs])
            for name, runs in items.items()
            if runs and _fits(scheme, runs)
        }
        for scheme in _SCHEMES
    ]
    return max(found, key=len)


def averaged(columns: Sequence[Strata]) -> Strata:
    """Return the strata of the plain mean of several columns."""
    share = 1 / len(columns)
    return tuple(Stratum(s.weight * share, s.items) for strata in columns for s in strata)


def mean(strata: Strata) -> float:
    """Return the score that strata average to; NaN if one is empty."""
    return sum(s.weight * _mean(s.items.values()) for s in strata)


def _by_run(
    runs: Iterable[SavedRun], column: Column, samples: Samples
) -> list[tuple[float, ByTask]]:
    """Return score and items of each run that has the column."""
    place = (column.metric, column.filter)
    return [
        (figure, [samples.values(run, task, column) for task in leaves(run, column.task)])
        for run in runs
        if (figure := numbers(run, column.task).get(place)) is not None
    ]


def _fits(scheme: Scheme, runs: Sequence[tuple[float, ByTask]]) -> bool:
    same_tasks = len({len(by_task) for _, by_task in runs}) == 1
    return same_tasks and all(
        math.isclose(mean(scheme(by_task)), figure, rel_tol=SAME, abs_tol=SAME)
        for figure, by_task in runs
    )


def _merged(runs: Sequence[Strata]) -> Strata:
    """Return strata with items averaged over runs; a row's runs have the same tasks."""
    merged = []
    for same in zip(*runs, strict=True):
        by_key: dict[str, list[Value]] = {}
        for stratum in same:
            for key, value in stratum.items.items():
                by_key.setdefault(key, []).append(value)
        items = {key: _averaged(values) for key, values in by_key.items()}
        merged.append(Stratum(same[0].weight, items))
    return tuple(merged)


def _averaged(values: Sequence[Value]) -> Value:
    if len(values) == 1:
        return values[0]
    products = zip(*(value.products for value in values), strict=True)
    return values[0]._replace(value=_mean(values), products=tuple(map(fmean, products)))


def _mean(values: Iterable[Value]) -> float:
    found = [value.value for value in values]
    return sum(found) / len(found) if found else math.nan

"""From the items of a metric to what is tested, for every kind of metric whose items tell.

A metric is a function of a weighted mean over items: accuracy the mean itself, perplexity
exp(−mean log-likelihood per word). Differences of means are paired item by item; perplexities are
compared by their ratio, which is exp of such a difference.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.comparison import PairedDifferences
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.gate.intervals import Contrast, steps_of
from lm_eval_trust.gate.measurement import Measurement, Value

Array = npt.NDArray[np.float64]
_LARGEST_LOGARITHM = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Scale:
    """How a metric comes out of its items.

    Attributes:
        read: Items' values → numerators and weights, each of shape (items,).
        multiplicative: Whether it is exp(−mean), so that models are compared by a ratio.
    """

    read: Callable[[Sequence[Value]], tuple[Array, Array]]
    multiplicative: bool = False

    def show(self, mean: float) -> float:
        """Return the metric from the mean over items."""
        return exp(-mean) if self.multiplicative else mean

    def interval(self, of_mean: Interval) -> Interval:
        """Return the metric's interval from that of the mean."""
        ends = sorted((self.show(of_mean.low), self.show(of_mean.high)))
        return Interval(self.show(of_mean.mean), *ends)


def exp(logarithm: float) -> float:
    """Return e to a power, infinite where no number is large enough."""
    return math.exp(logarithm) if logarithm < _LARGEST_LOGARITHM else math.inf


def _plain(values: Sequence[Value]) -> tuple[Array, Array]:
    return np.asarray(values, dtype=np.float64), np.ones(len(values))


def _weighted(values: Sequence[Value]) -> tuple[Array, Array]:
    pairs = np.asarray(values, dtype=np.float64)
    return pairs[:, 0], pairs[:, 1]


def _bits(values: Sequence[Value]) -> tuple[Array, Array]:
    logs, sizes = _weighted(values)
    return -logs / math.log(2), sizes


#: Name of an aggregation of the harness, or of ours → scale. Others, such as F1, have no value of
#: single items; they can be held to a minimum or a maximum only.
SCALES = {
    "mean": Scale(_plain),
    "nanmean": Scale(_plain),
    "mean_of_category": Scale(_plain),
    "perplexity": Scale(_plain, multiplicative=True),
    "weighted_perplexity": Scale(_weighted, multiplicative=True),
    "bits_per_byte": Scale(_bits),
}


@dataclass(frozen=True)
class Items:
    """A metric's items under one model, those without a value left out.

    Attributes:
        ids: Which items.
        groups: Their groups.
        values: Numerators, shape (items,).
        weights: Weights, shape (items,).
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Array
    weights: Array

    @cached_property
    def group_numbers(self) -> npt.NDArray[np.int64]:
        """Number of each item's group, shape (items,)."""
        return np.unique(self.groups, return_inverse=True)[1]

    @property
    def mean(self) -> float:
        """The weighted mean."""
        return float(self.values.sum() / self.weights.sum())

    def only(self, ids: frozenset[str]) -> Items:
        """Return the items among these, in the order of their ids."""
        order = [i for i in np.argsort(self.ids, kind="stable") if self.ids[i] in ids]
        return Items(
            tuple(self.ids[i] for i in order),
            tuple(self.groups[i] for i in order),
            self.values[order],
            self.weights[order],
        )


def items_of(measurement: Measurement, metric: str) -> Items | None:
    """Return a metric's items; ``None`` where its values are not those of single items.

    Raises:
        InputError: No item has a value.
    """
    scale = SCALES.get(measurement.aggregations[metric])
    if scale is None:
        return None
    values = measurement.values[metric]
    kept = [i for i, value in enumerate(values) if _is_there(value)]
    if not kept:
        raise InputError(f"No item of {measurement.task} has a value of {metric}.")
    numerators, weights = scale.read([values[i] for i in kept])
    return Items(
        tuple(measurement.ids[i] for i in kept),
        tuple(measurement.groups[i] for i in kept),
        numerators,
        weights,
    )


def own_interval(items: Items, confidence: float) -> Interval:
    """Return the mean of one model's items with its interval.

    Shares stay between 0 and 1, and are never certain: of yes-or-no items it is at least Wilson's.
    """
    sums = _grouped(items.values, items)
    if (items.weights != 1).any() or items.values.min() < 0 or items.values.max() > 1:
        return Contrast(sums).interval(confidence)
    step, reach = steps_of(items.values)
    none, all_of_them = (
        Contrast(sums, step, reach, end).interval(confidence) for end in (0.0, 1.0)
    )
    return Interval(none.mean, max(0.0, all_of_them.low), min(1.0, none.high))


def paired_contrast(before: Items, after: Items, *, ratio: float = 1.0) -> Contrast:
    """Return the mean of ``after − ratio · before`` over the same items.

    Raises:
        InputError: The items, their groups or their weights differ.
    """
    if before.ids != after.ids or before.groups != after.groups:
        raise InputError("The two evaluations hold different items; evaluate both on the same.")
    if not np.array_equal(before.weights, after.weights):
        raise InputError("The two evaluations count the words of the same items differently.")
    plain = bool((before.weights == 1).all())
    step, reach = steps_of(before.values, after.values) if plain else (0.0, 0.0)
    sums = _grouped(after.values - ratio * before.values, before)
    return Contrast(sums, step, reach, agreement=(1 - ratio) * before.mean)


def _grouped(values: Array, items: Items) -> PairedDifferences:
    index = items.group_numbers
    sums, sizes = np.bincount(index, weights=values), np.bincount(index, weights=items.weights)
    return PairedDifferences(sums.astype(np.float64), sizes.astype(np.int64))


def _is_there(value: Value) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(part is not None and math.isfinite(part) for part in parts)

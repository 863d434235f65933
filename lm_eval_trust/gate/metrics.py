"""Metrics as functions of a weighted mean over items.

Accuracy is the mean itself, perplexity exp(−mean log-likelihood per word). Other aggregations, such
as F1, are not functions of such a mean, and cannot be compared item by item.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement, Value

Array = npt.NDArray[np.float64]
_LARGEST_LOGARITHM = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Scale:
    """How a metric follows from its items.

    Attributes:
        read: Items' values → numerators and weights, each of shape (items,).
        multiplicative: Whether the metric is exp(−mean), so models are compared by a ratio.
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
    """Return e to a power, infinite if it exceeds the largest float."""
    return math.exp(logarithm) if logarithm < _LARGEST_LOGARITHM else math.inf


def _plain(values: Sequence[Value]) -> tuple[Array, Array]:
    return np.asarray(values, dtype=np.float64), np.ones(len(values))


def _weighted(values: Sequence[Value]) -> tuple[Array, Array]:
    pairs = np.asarray(values, dtype=np.float64)
    return pairs[:, 0], pairs[:, 1]


def _bits(values: Sequence[Value]) -> tuple[Array, Array]:
    logs, sizes = _weighted(values)
    return -logs / math.log(2), sizes


#: Name of an aggregation, the harness's or ours → scale. Metrics with another aggregation can be
#: held to a minimum or a maximum only.
SCALES = {
    "mean": Scale(_plain),
    "nanmean": Scale(_plain),
    "mean_of_category": Scale(_plain),
    "mean_of_present": Scale(_plain),
    "perplexity": Scale(_plain, multiplicative=True),
    "weighted_perplexity": Scale(_weighted, multiplicative=True),
    "bits_per_byte": Scale(_bits),
}


@dataclass(frozen=True)
class MetricItems:
    """A metric's items under one model, without those that have no value.

    Attributes:
        ids: Identities.
        groups: Their groups.
        values: Numerators, shape (items,).
        weights: Weights, shape (items,).
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Array
    weights: Array

    @property
    def mean(self) -> float:
        """The weighted mean."""
        return float(self.values.sum() / self.weights.sum())

    def only(self, ids: frozenset[str]) -> MetricItems:
        """Return the items with these ids, sorted by id."""
        order = [i for i in np.argsort(self.ids, kind="stable") if self.ids[i] in ids]
        return MetricItems(
            tuple(self.ids[i] for i in order),
            tuple(self.groups[i] for i in order),
            self.values[order],
            self.weights[order],
        )


def items_of(measurement: Measurement, metric: str) -> MetricItems | None:
    """Return a metric's items; ``None`` if its aggregation is not a function of a mean over items.

    Raises:
        InputError: No item has a value.
    """
    scale = SCALES.get(measurement.aggregations[metric])
    if scale is None:
        return None
    values = measurement.values[metric]
    kept = [i for i, value in enumerate(values) if _has_value(value)]
    if not kept:
        raise InputError(f"No item of {measurement.task} has a value of {metric}.")
    numerators, weights = scale.read([values[i] for i in kept])
    return MetricItems(
        tuple(measurement.ids[i] for i in kept),
        tuple(measurement.groups[i] for i in kept),
        numerators,
        weights,
    )


def _has_value(value: Value) -> bool:
    """Tell whether an item takes part; a NaN here is a gap, others fail the rule beforehand."""
    parts = value if isinstance(value, list) else [value]
    return all(part is not None and math.isfinite(part) for part in parts)

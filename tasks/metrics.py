"""Aggregations of per-item values that the harness lacks.

A mean, a ratio or a correlation of nothing is undefined: it is NaN, which results and boards show
as such and which no rule of the gate accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from lm_eval_trust.analysis.derived import drop_rate_interval, icat_interval, mean_over_groups
from lm_eval_trust.analysis.statistics import Interval


def total(values: Sequence[float]) -> float:
    """Return the sum, for counts."""
    return float(sum(values))


def mean_of_present(values: Sequence[float | None]) -> float:
    """Return the mean of the values that are there; items that it is not about carry ``None``."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else math.nan


def mean_of_category(values: Sequence[float | None]) -> float:
    """Return the mean of the items of one category; items of others carry ``None``."""
    return mean_of_present(values)


def of_category(aggregation: Callable[[Sequence[Any]], float]) -> Callable[[Sequence[Any]], float]:
    """Return the aggregation over the items of one category, under the same name.

    Args:
        aggregation: Aggregation of the whole task's values.
    """

    def over_present(values: Sequence[Any]) -> float:
        return aggregation([value for value in values if value is not None])

    over_present.__name__ = aggregation.__name__
    return over_present


def f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the F1 score of class 1 from (gold, predicted) pairs.

    It is 0 without true positives, and NaN where 1 is neither in the gold nor predicted.
    """
    true_positives = sum(gold == predicted == 1 for gold, predicted in pairs)
    wrong = sum(gold != predicted for gold, predicted in pairs)
    positives = 2 * true_positives + wrong
    return 2 * true_positives / positives if positives else math.nan


def pearson(pairs: Sequence[tuple[float | None, float] | None]) -> float:
    """Return Pearson's correlation of (answer, human mean) pairs, −1 to 1.

    Pairs without an answer, and items that it is not about (``None``), are left out. It is NaN
    where fewer than two pairs are left, or all answers or all human means are equal.
    """
    kept = [pair for pair in pairs if pair is not None and pair[0] is not None]
    answered = np.array(kept, dtype=np.float64)
    if len(answered) < 2 or not np.ptp(answered, axis=0).all():
        return math.nan
    return float(np.corrcoef(answered.T)[0, 1])


def performance_drop_rate(pairs: Sequence[tuple[float, float]]) -> float:
    """Return 1 − (accuracy on perturbed) / (accuracy on original); below 0 for a gain.

    The PDR of Zhu et al. 2023 (PromptBench, arXiv 2306.04528, section 3.3). NaN if no original is
    answered correctly.

    Args:
        pairs: Whether each item's original, and whether its perturbed form, is answered correctly.
    """
    original, perturbed = np.sum(np.array(pairs, dtype=np.float64).reshape(-1, 2), axis=0)
    return float(1 - perturbed / original) if original else math.nan


#: An item's target term with its score.
OfTerm = tuple[str, float]


def mean_over_terms(values: Sequence[OfTerm | None]) -> float:
    """Return the mean over target terms of the mean over a term's items (StereoSet).

    Items without a value (``None``) are left out.
    """
    by_term: dict[str, list[float]] = {}
    for term, value in (each for each in values if each is not None):
        by_term.setdefault(term, []).append(value)
    means = [sum(of_term) / len(of_term) for of_term in by_term.values()]
    return sum(means) / len(means) if means else math.nan


def icat(values: Sequence[tuple[str, float, float] | None]) -> float:
    """Return the idealised CAT score, 0 to 100, as StereoSet's authors compute it.

    Language-modelling score and stereotype score are averaged over the items of each target term,
    then over the terms, and combined (Nadeem et al. 2021, section 6; ``evaluation.py``).

    Args:
        values: Each item's target term, language-modelling score and stereotype score, the scores
            from 0 to 100; ``None`` for one without a value.
    """
    present = [value for value in values if value is not None]
    language = mean_over_terms([(term, score) for term, score, _ in present])
    stereotype = mean_over_terms([(term, score) for term, _, score in present])
    return language * min(stereotype, 100.0 - stereotype) / 50.0


def distance_from_ideal(values: Sequence[OfTerm | None]) -> float:
    """Return how far the stereotype score is from its ideal of 50, 0 to 50."""
    return abs(mean_over_terms(values) - 50.0)


def _over_terms(values: Sequence[OfTerm]) -> Interval:
    terms, scores = zip(*values, strict=True)
    found = mean_over_groups(np.array(scores) / 100, terms)
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high)


def _from_ideal(values: Sequence[OfTerm]) -> Interval:
    found = _over_terms(values)
    ends = [abs(end - 50) for end in (found.low, found.high)]
    low = 0.0 if found.low <= 50 <= found.high else min(ends)
    return Interval(abs(found.mean - 50), low, max(ends))


def _icat(values: Sequence[tuple[str, float, float]]) -> Interval:
    terms, language, stereotype = zip(*values, strict=True)
    return icat_interval(language, stereotype, terms)


def _drop_rate(pairs: Sequence[tuple[float, float]]) -> Interval:
    original, perturbed = zip(*pairs, strict=True)
    return drop_rate_interval(original, perturbed)


#: Aggregations that are no mean over items, so that the harness gives no standard error → the
#: 95 % interval from the same values.
_INTERVALS: Mapping[str, Callable[[Sequence[Any]], Interval]] = {
    icat.__name__: _icat,
    mean_over_terms.__name__: _over_terms,
    distance_from_ideal.__name__: _from_ideal,
    performance_drop_rate.__name__: _drop_rate,
}


def interval_names(metric: str) -> tuple[str, str]:
    """Return the names of the metrics with the ends of a metric's 95 % interval."""
    return f"{metric}_low", f"{metric}_high"


def is_interval_end(metric: str, metrics: Container[str]) -> bool:
    """Tell whether a metric is an end of the interval of another of these, with filters or not."""
    name, comma, filter_name = metric.partition(",")
    whole = name.removesuffix("_low").removesuffix("_high")
    needed = (whole, *interval_names(whole))
    return whole != name and all(f"{each}{comma}{filter_name}" in metrics for each in needed)


def interval_ends(
    aggregation: Callable[[Sequence[Any]], float],
) -> tuple[Callable[[Sequence[Any]], float], ...]:
    """Return the aggregations for :func:`interval_names`; empty if the metric has no such interval.

    They give NaN for what has no interval: no items, or a single group of them.

    Args:
        aggregation: The metric's own.
    """
    interval = _INTERVALS.get(aggregation.__name__)
    if interval is None:
        return ()

    def interval_low(values: Sequence[Any]) -> float:
        return interval(values).low if values else math.nan

    def interval_high(values: Sequence[Any]) -> float:
        return interval(values).high if values else math.nan

    return of_category(interval_low), of_category(interval_high)

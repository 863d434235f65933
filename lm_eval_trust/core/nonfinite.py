"""Items that mean nothing, since a log-likelihood or a score is NaN or infinite.

The largest of choices that are NaN is an arbitrary one, so the accuracy of a broken model
looks like a number. Such items are counted, and whoever reports a score reports the count with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: Key of the count in a task's metadata and in the ``config`` of results files.
NONFINITE = "nonfinite"
#: Tasks of the harness whose answers are log-likelihoods.
SCORED_TYPES = frozenset(("loglikelihood", "loglikelihood_rolling", "multiple_choice"))
_WORDS = frozenset(("nan", "inf", "-inf", "+inf"))


def has_nonfinite(value: Any) -> bool:
    """Tell whether a number, or one in a nested list, is NaN or infinite.

    In saved samples, numbers are texts.
    """
    if isinstance(value, str):
        return value in _WORDS
    if isinstance(value, (list, tuple)):
        return any(map(has_nonfinite, value))
    return isinstance(value, float) and not math.isfinite(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def nonfinite_items(samples: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> int:
    """Return the number of a task's items with a log-likelihood or a score that is not finite.

    A score of generated texts that is NaN for all of them is undefined, such as a mean of two kinds
    of items if all are of one kind; no item is broken.

    Args:
        samples: The harness's, in memory or as saved.
        config: The task's configuration, as results files have it.
    """
    scored = config.get("output_type") in SCORED_TYPES
    # These tasks say by NaN that an item has no value.
    gaps = {
        str(entry.get("metric"))
        for entry in config.get("metric_list") or ()
        if isinstance(entry, Mapping) and entry.get("aggregation") == "nanmean"
    }
    samples = list(samples)
    if not scored:
        names = {name for sample in samples for name in sample.get("metrics", ())}
        gaps |= {name for name in names if all(_is_nan(sample.get(name)) for sample in samples)}
    found = set()
    for sample in samples:
        values = (
            sample.get(name)
            for name in sample.get("metrics", ())
            if name not in gaps or not _is_nan(sample.get(name))
        )
        if (scored and has_nonfinite(sample.get("resps"))) or any(map(has_nonfinite, values)):
            found.add(sample.get("doc_id"))
    return len(found)


def in_words(count: int, items: int, task: str) -> str:
    """Return the sentence that says so."""
    return (
        f"{count} of {items} items of {task} have a log-likelihood or score that is not a finite "
        f"number; its scores mean nothing."
    )


def undefined_in_words(metrics: Iterable[str], task: str, scores: Mapping[str, Any]) -> str:
    """Return the sentence that says that metrics are NaN although no item is broken.

    They are means or correlations of nothing: no answer could be read, or no item has a value.
    Where no answer at all could be read, either may be the reason: with few items, none may be of
    a category.

    Args:
        metrics: Their names.
        task: Name of the task.
        scores: The task's metrics, with their filters or without.
    """
    told = {name.partition(",")[0]: value for name, value in scores.items()}
    unread = told.get("unparsed") == 1 or told.get("answered") == 0
    why = "no answer could be read, or no item has a value" if unread else "its items give none"
    return f"{task} has no {', '.join(dict.fromkeys(metrics))}: {why}."

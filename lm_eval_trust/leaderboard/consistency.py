"""Whether a run's scores are those of its samples."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lm_eval.api.metrics  # noqa: F401  (fills the registry)
from lm_eval.api.registry import get_metric_aggregation, metric_agg_registry

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.nonfinite import (
    NONFINITE,
    in_words,
    nonfinite_items,
    undefined_in_words,
)
from lm_eval_trust.core.saved_runs import Sample, SavedRun
from lm_eval_trust.judges.correction import is_corrected
from lm_eval_trust.leaderboard.layout import figures, leaves, numbers
from lm_eval_trust.tasks.metrics import is_interval_end

#: The harness does not round; sums may differ in their order only.
SAME = 1e-6


def _per_unit(pairs: Sequence[Any]) -> float:
    return float(sum(log for log, _ in pairs) / sum(size for _, size in pairs))


#: The harness's aggregations that can be repeated from the items' values; others are functions of
#: a task, which results files hold as text only.
_AGGREGATIONS: Mapping[str, Callable[[Sequence[Any]], float]] = {
    "mean": statistics.fmean,
    "nanmean": lambda values: statistics.fmean(v for v in values if v == v),
    "perplexity": lambda values: math.exp(-statistics.fmean(values)),
    "weighted_perplexity": lambda pairs: math.exp(-_per_unit(pairs)),
    "bits_per_byte": lambda pairs: -_per_unit(pairs) / math.log(2),
}


def check_scores(run: SavedRun, task: str, by_filter: Mapping[str, Sequence[Sample]]) -> None:
    """Raise unless a task's scores follow from its samples.

    Scores whose aggregation cannot be repeated, such as F1, are taken as they are.

    Args:
        run: The run.
        task: One of its tasks.
        by_filter: Name of a filter → the task's samples.

    Raises:
        InputError: A score is not that of its samples, or an item occurs twice.
    """
    file, found = run.samples_file(task), numbers(run, task)
    for filter_name, samples in by_filter.items():
        counts = Counter(sample["doc_id"] for sample in samples)
        twice = [item for item, count in counts.items() if count > 1]
        if twice:
            raise InputError(f"{file} holds item {twice[0]} twice; it was changed or damaged.")
        for metric, aggregate in _repeatable(run.results["configs"][task] or {}, found):
            values = [s[metric] for s in samples if s.get(metric) is not None]
            score = found.get((metric, filter_name))
            if score is None or not values:
                continue
            own = _computed(aggregate, values)
            if own is not None and not math.isclose(score, own, rel_tol=SAME, abs_tol=SAME):
                raise InputError(
                    f"{run.path} has {metric} {score:g} of {task}, but its samples give {own:g}: "
                    f"one of the two was changed, or they are of different runs. Evaluate it again."
                )


def _repeatable(
    config: Mapping[str, Any], found: Iterable[tuple[str, str]]
) -> Iterable[tuple[str, Callable[[Sequence[Any]], float]]]:
    """Yield the metrics of a task that can be repeated, with how."""
    listed = [e for e in config.get("metric_list") or () if isinstance(e, Mapping)]
    declared = {str(entry.get("metric")): entry.get("aggregation") for entry in listed}
    kwargs = config.get("dataset_kwargs")
    breakdown = kwargs.get("breakdown") if isinstance(kwargs, Mapping) else None
    for metric in dict.fromkeys(metric for metric, _ in found):
        name = declared.get(metric)
        if metric in declared:
            if name is None and metric in metric_agg_registry:
                name = getattr(get_metric_aggregation(metric), "__name__", None)
        elif isinstance(breakdown, Mapping) and metric.startswith(f"{breakdown.get('metric')}_"):
            name = "mean"
        if str(name) in _AGGREGATIONS:
            yield metric, _AGGREGATIONS[str(name)]


def _computed(aggregate: Callable[[Sequence[Any]], float], values: Sequence[Any]) -> float | None:
    """Return the score of some items; ``None`` if their values are not what it is made of."""
    try:
        return aggregate(values)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def broken_items(run: SavedRun, task: str, samples: Iterable[Sample]) -> int:
    """Return how many items make a task's scores meaningless, since they are not finite.

    See :func:`nonfinite_note` for the arguments.
    """
    config = run.results["configs"].get(task) or {}
    recorded: int = (config.get("metadata") or {}).get(NONFINITE) or 0
    return max(nonfinite_items(samples, config), recorded)


def nonfinite_note(run: SavedRun, task: str, samples: Iterable[Sample]) -> str | None:
    """Return what is to be said of a task whose answers or scores are not finite.

    Args:
        run: The run.
        task: One of its tasks.
        samples: Samples of the task; empty where they were not saved.
    """
    samples = list(samples)
    items = ((run.results.get("n-samples") or {}).get(task) or {}).get("effective") or len(samples)
    if count := broken_items(run, task, samples):
        return in_words(count, items, task)
    broken = [
        name.partition(",")[0]
        for name, value in figures(run, task).items()
        if _is_broken(name, value) and not is_interval_end(name, figures(run, task))
    ]
    if not broken:
        return None
    if samples and all(math.isnan(v) for n, v in figures(run, task).items() if _is_broken(n, v)):
        return undefined_in_words(broken, task, figures(run, task))
    return f"{broken[0]} of {task} is not a finite number."


def _is_broken(name: str, value: Any) -> bool:
    """Tell whether a score is missing; a correction that does not fit has a raw score as well."""
    undefined = isinstance(value, float) and not math.isfinite(value)
    return undefined and "_stderr" not in name and not is_corrected(name)


def group_notes(run: SavedRun) -> list[str]:
    """Return a note for each score of a group that is not a mean of its tasks' scores."""
    notes = []
    for group in run.results.get("groups") or {}:
        for (metric, filter_name), score in numbers(run, group).items():
            means = _means(run, group, (metric, filter_name))
            if means and not any(math.isclose(score, m, rel_tol=SAME, abs_tol=SAME) for m in means):
                notes.append(
                    f"{metric} of {group} is {score:g}, which is no mean of its tasks' "
                    f"({min(means):g} to {max(means):g})."
                )
    return notes


def _means(run: SavedRun, group: str, place: tuple[str, str]) -> list[float]:
    """Return the means that a group's score may be: over tasks, over members, over items."""
    tasks, counts = leaves(run, group), run.results.get("n-samples") or {}
    sizes = [(counts.get(task) or {}).get("effective") or 0 for task in tasks]
    scores = [numbers(run, task).get(place) for task in tasks]
    listed = (run.results.get("group_subtasks") or {}).get(group) or tasks
    members = [numbers(run, member).get(place) for member in listed]
    known = [score for score in scores if score is not None]
    if len(known) < len(tasks) or not sum(sizes):
        return []
    weighted = sum(n * score for n, score in zip(sizes, known, strict=True)) / sum(sizes)
    of_members = [score for score in members if score is not None]
    return [
        statistics.fmean(known),
        weighted,
        *([statistics.fmean(of_members)] if of_members else []),
    ]

"""The attributes of lm-eval's ``ConfigurableTask`` that our tasks read or set.

lm-eval gives no public way to add metrics or filters to a task from code. Tested with lm_eval
0.4.13; ``tests/tasks/test_lm_eval_internals.py`` fails when an upgrade moves one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.filter import Filter, FilterEnsemble
from lm_eval.api.task import ConfigurableTask


def add_metric(
    task: ConfigurableTask, name: str, aggregation: Callable[[Sequence[Any]], float], *, like: str
) -> None:
    """Declare a metric that the task's YAML does not name.

    Args:
        task: The task.
        name: Name of the new metric.
        aggregation: Per-item values → the task's value.
        like: The task's metric whose direction (higher is better, or lower) the new one shares.
    """
    task._aggregation_list[name] = aggregation
    task._higher_is_better[name] = task._higher_is_better[like]


def has_metric(task: ConfigurableTask, name: str) -> bool:
    """Tell whether a metric is computed; ``--predict_only`` takes all of them away."""
    return name in task._metric_fn_list


def set_filter(task: ConfigurableTask, make_filter: Callable[[], Filter]) -> None:
    """Replace the task's filters by one, under lm-eval's own name for "no filter": ``none``."""
    task._filters = [FilterEnsemble("none", [make_filter])]

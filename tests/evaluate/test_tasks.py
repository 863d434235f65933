"""What a measurement depends on, and what is read off the harness's tasks and samples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from lm_eval_trust.evaluate.measurement import measurement_of
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet, _identity

DOCUMENTS = [{"group_id": "a"}, {"group_id": "a"}, {"group_id": None}, {"text": "made up"}]
ALL = range(len(DOCUMENTS))


class MadeUp:
    """A task with a function among its settings, which lies elsewhere in every process."""

    VERSION = 1
    eval_docs = DOCUMENTS

    def __init__(self, made: Callable[..., str]) -> None:
        self._made = made

    def dump_config(self) -> dict[str, Any]:
        return {"doc_to_text": self._made, "metadata": {"config_source": repr(id(self))}}


def asking(prompt: str) -> Callable[..., str]:
    def ask(document: dict[str, Any], mark: str) -> str:
        return f"{prompt} {document}{mark}"

    return ask


def made_up(task: MadeUp) -> TaskSet:
    return TaskSet(("made_up",), {"made_up": task}, {"made_up": range(3)}, 3, None, {})


def test_where_a_function_lies_in_memory_is_no_part_of_a_task() -> None:
    first, second = (MadeUp(partial(asking("Well,"), mark="?")) for _ in range(2))
    assert repr(first.dump_config()) != repr(second.dump_config())
    assert _identity(first, ALL) == _identity(second, ALL)
    assert _identity(first, ALL[:2]) != _identity(first, ALL)
    assert _identity(MadeUp(partial(asking("Well,"), mark="!")), ALL) != _identity(first, ALL)


@pytest.mark.slow
def test_another_process_knows_the_tasks_again() -> None:
    names = ("trust_sst2_mini", "trust_stereoset_mini")
    code = (
        "from lm_eval_trust.evaluate.tasks import TaskIndex\n"
        f"for name in {names}: print(TaskIndex({{}}).load([name], limit=5).identity)"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.split() == [TaskIndex({}).load([name], limit=5).identity for name in names]


def test_an_aggregation_without_a_name_is_no_mean() -> None:
    task = MadeUp(asking(""))
    task.aggregation = lambda: {"f1": partial(max, key=len), "acc": np.mean}  # type: ignore[attr-defined]
    assert made_up(task).aggregations == {"made_up": {"f1": "", "acc": "mean"}}


def test_items_of_a_task_are_in_the_groups_of_their_documents() -> None:
    assert made_up(MadeUp(asking(""))).groups("made_up") == ["a", "a", "item 2"]


def test_values_of_numpy_are_values() -> None:
    values = [np.bool_(True), np.float32(0.5), np.int64(2), (np.float32(-3), np.int64(4)), "x"]
    samples = [
        {"doc_id": n, "doc_hash": f"{n}", "filter": "none", "metrics": ["acc"], "acc": value}
        for n, value in enumerate(values)
    ]
    measured = measurement_of("t", evaluated(samples), {"acc": "mean"})
    assert measured.values["acc"] == [1.0, 0.5, 2.0, [-3.0, 4.0], None]


def test_a_metric_that_no_item_has_a_value_of_is_nan() -> None:
    samples = [
        {"doc_id": n, "doc_hash": f"{n}", "filter": "none", "metrics": ["acc"], "acc": 0.5}
        for n in range(3)
    ]
    declared = {"acc": "mean", "trust_score": "mean"}
    measured = measurement_of("t", evaluated(samples), declared)
    assert measured.values["trust_score"] == [None] * 3
    assert measured.aggregations == declared
    assert "trust_score" in measured.doubt("trust_score") and not measured.doubt("acc")


def evaluated(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """What the harness returns for a task with an accuracy of one half."""
    return {
        "samples": {"t": samples},
        "results": {"t": {"acc,none": 0.5}},
        "higher_is_better": {"t": {"acc": True}},
        "versions": {"t": 1},
        "configs": {"t": {}},
        "n-shot": {"t": 0},
    }

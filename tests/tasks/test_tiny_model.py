"""The stock harness runs every task with a real, if tiny, model on real data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from support.harness import manager

pytestmark = pytest.mark.usefixtures("data_dir")


def run(folder: Path, tasks: list[str], limit: int) -> dict[str, Any]:
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        tasks=tasks,
        task_manager=manager(),
        limit=limit,
        batch_size=16,
        device="cpu",
        bootstrap_iters=10,
    )
    return results


@pytest.fixture(scope="module")
def model(tiny_llama: Callable[..., Path]) -> Path:
    return tiny_llama(layers=2, max_length=2048)


@pytest.mark.slow
def test_suite(model: Path) -> None:
    results = run(model, ["trust_suite"], limit=2)
    scores = results["results"]
    tasks = results["group_subtasks"]["trust_suite"]
    assert len(tasks) == 5
    mean = sum(scores[task]["trust_score,none"] for task in tasks) / 5
    assert scores["trust_suite"]["trust_score,none"] == pytest.approx(mean)
    _check(results)
    for task in tasks:
        for sample in results["samples"][task]:
            assert sample["arguments"][0][0] and sample["filtered_resps"][0] is not None
            assert isinstance(sample["resps"][0][0], str)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [["trust_extra"], ["trust_general_local"]])
def test_further_tasks(model: Path, tasks: list[str]) -> None:
    _check(run(model, tasks, limit=2))


def _check(results: dict[str, Any]) -> None:
    """Every figure is a number, or about answers of which none could be parsed."""
    for task, scores in results["results"].items():
        figures = {k: v for k, v in scores.items() if k.endswith(",none") and "_stderr" not in k}
        assert figures or task.startswith("trust_general"), task
        undefined = {name for name, value in figures.items() if not math.isfinite(value)}
        # Two items may be about one term, or no original be right: then there is no interval.
        ends = re.compile(r"(icat|lms|ss|pdr)(_\w+)?_(low|high),none")
        undefined = {name for name in undefined if not ends.fullmatch(name)}
        if figures.get("unparsed,none") == 1.0:
            undefined -= {n for n in undefined if n.startswith(("acc_parsed", "pearson"))}
        assert not undefined - {"pdr,none", "asr,none", "changed,none"}, (task, figures)
    json.dumps(results, default=str)

r"""What steering does to safety: each vector at each strength, and prompts, on XSTest and BBQ.

All configurations share the passes of a sweep; every one is compared with the unsteered model item
by item, with intervals over groups. What is finished is kept in ``--out`` and not computed again.

    nice python -u benchmarks/safety.py --model MODEL --vectors *.safetensors --layer 15 \
        --alphas 1 2 --tokens 64 --out safety
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.comparison import compare
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.benchmarks.registry import BENCHMARKS
from lm_eval_trust.evaluate.controls import Controls, arms_of
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.prefixes import prompt_prefixes
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.sweep.grid import Items, default_perplexity_task
from lm_eval_trust.sweep.passes import TEST, VALIDATION, Cell, shared_passes, slug
from lm_eval_trust.sweep.search import perplexity_of

#: Task → metrics of the table.
METRICS: Mapping[str, Sequence[str]] = {
    "trust_xstest": ("refusal_of_unsafe", "answers_to_safe", "judge_unparsed"),
    "trust_bbq": ("acc", "bias", "answered"),
    "trust_bbq_ll": ("acc", "acc_ambig", "acc_disambig", "bias", "bias_ambig", "bias_disambig"),
}


def change(before: Outcome, after: Outcome, task: str, metric: str) -> Interval:
    """The paired difference over the items that have a value in both."""
    first, second = (outcome.measurements[task] for outcome in (before, after))
    rows = [
        row
        for row in zip(first.values[metric], second.values[metric], first.groups, strict=True)
        if isinstance(row[0], float) and isinstance(row[1], float)
    ]
    if not rows:
        return Interval(float("nan"), float("nan"), float("nan"))
    return compare(*zip(*rows, strict=True)).difference


def table(name: str, before: Outcome, after: Outcome) -> Iterator[dict[str, Any]]:
    for task in after.measurements:
        for metric in METRICS[task]:
            moved = change(before, after, task, metric)
            yield {
                "configuration": name,
                "task": task,
                "metric": metric,
                "items": sum(v is not None for v in after.measurements[task].values[metric]),
                "value": after.measurements[task].scores[metric],
                "change": moved.mean,
                "low": moved.low,
                "high": moved.high,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--vectors", required=True, nargs="+", type=Path)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--alphas", nargs="+", type=float, default=[1.0, 2.0])
    parser.add_argument("--tasks", nargs="+", default=["trust_xstest", "trust_bbq_ll"])
    parser.add_argument("--limit", type=int, help="items of each task")
    parser.add_argument("--text-limit", type=int, default=60, help="items of the perplexity task")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--dimensions", nargs="*", default=[], help="whose prompts are arms as well"
    )
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()

    metadata = {"answer_tokens": asked.tokens}
    index = TaskIndex(metadata)
    arguments = {"pretrained": asked.model, "dtype": "float32", "device": "cpu"}
    arguments["batch_size"] = asked.batch
    steered = {
        f"{vector.stem}, α = {alpha:g}": SteeringSpec(
            vector=str(vector), layer=(asked.layer,), alpha=alpha
        ).plan()
        for vector in asked.vectors
        for alpha in asked.alphas
    }
    plans = {"unsteered": SteeringPlan(), **steered}
    cells = [Cell(name.replace(", α = ", "-"), plan) for name, plan in plans.items()]
    items = [Items((task,), TEST, asked.limit, metadata) for task in asked.tasks]
    text = Items((default_perplexity_task(("",)),), VALIDATION, asked.text_limit, metadata)
    rows: list[dict[str, Any]] = []
    with shared_passes(asked.out, "amber", arguments, index, list(plans.values())) as passes:
        for each in (text, *items):
            found = dict(zip(plans, passes.evaluate(cells, each), strict=True))
            if each is text:
                costs = {n: perplexity_of(o, text.tasks[0]) for n, o in found.items()}
                print(pd.Series(costs).to_string(), flush=True)
                continue
            tasks = passes.tasks(each)
            prompts = {
                arm.name: arm.prefixes for arm in arms_of(Controls.parse("prompt"), [], tasks)
            }
            for name in asked.dimensions:
                prompts[f"prompt of {name}"] = prompt_prefixes(tasks, BENCHMARKS[name].prompts[0])
            for name, prefixes in prompts.items():
                told = [Cell(slug(name), SteeringPlan())]
                (found[name],) = passes.evaluate(told, each, prefixes=prefixes)
            for name, outcome in found.items():
                rows += table(name, found["unsteered"], outcome)
            frame = pd.DataFrame(rows)
            frame["perplexity"] = frame["configuration"].map(costs)
            frame.to_csv(asked.out / "safety.csv", index=False)
            print(frame[frame["task"] == each.tasks[0]].to_string(), flush=True)


if __name__ == "__main__":
    main()

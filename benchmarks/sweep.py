"""What a sweep saves: 4 layers × 4 α on two tasks, against as many plain runs of the harness.

With ``--random 8``, eight random directions of the same length, at the last layer and its largest
α, run beside the 16 configurations, as control arms and rankings have them.

One process, one loaded model, the same tasks and batch size; each evaluation is timed from the
harness's call to its results, with loading left out. The answers of all configurations are
compared, and the ones that differ are printed with both versions.

    LM_EVAL_TRUST_DATA=FOLDER LM_EVAL_TRUST_SMOLLM2=FOLDER python -u benchmarks/sweep.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_eval

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.evaluate.controls import random_step
from lm_eval_trust.evaluate.harness import task_manager
from lm_eval_trust.evaluate.lm_eval_internals import quick_calls
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import SteeringVector
from lm_eval_trust.sweep.sweep_model import SweepLM, load_sweep_model

TASKS = ("trust_stereoset", "trust_sst2")
LAYERS = (12, 16, 20, 24)
ALPHAS = (0.5, 1.0, 2.0, 4.0)
#: Statements of the vector: enough for a direction, few enough for a minute.
STATEMENTS = 128

Answers = dict[str, list[Any]]


def vector_of(model: str) -> SteeringVector:
    """A TruthfulQA vector at the layers."""
    network, tokenizer, identity = load_source(model, dtype="float32", device="cpu")
    statements = load_statements("truthfulqa").sample(STATEMENTS, seed=0)
    return build_vector(
        network, tokenizer, statements, layers=LAYERS, identity=identity, progress=False
    )


def randomised(plan: SteeringPlan, number: int) -> SteeringPlan:
    """The plan in a random direction."""
    return replace(plan, steps=tuple(random_step(step, number) for step in plan.steps))


def timed(
    model: SweepLM,
    plan: SteeringPlan,
    manager: Any,
    limit: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, Answers]:
    """Seconds of one evaluation, and its answers by task."""
    model.steer_by(plan)
    start = clock()
    with quick_calls():
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=list(TASKS),
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
        )
    seconds = clock() - start
    return seconds, {
        task: [sample["resps"] for sample in samples] for task, samples in found["samples"].items()
    }


def differences(plain: Sequence[Answers], swept: Sequence[Answers]) -> list[tuple[Any, Any]]:
    """Answers that are not the same."""
    return [
        pair
        for one, other in zip(plain, swept, strict=True)
        for task in one
        for pair in zip(one[task], other[task], strict=True)
        if pair[0] != pair[1]
    ]


def main() -> None:
    """Print both times, their ratio, and how many answers agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--limit", type=int, default=64, help="items per task")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--random", type=int, default=0, help="random directions beside them")
    parser.add_argument(
        "--processor", action="store_true", help="time of the processor, for a busy machine"
    )
    options = parser.parse_args()
    clock = time.process_time if options.processor else time.perf_counter
    vector = vector_of(options.model)
    plans = [SteeringPlan.from_vector(vector, [n], alpha=a) for n in LAYERS for a in ALPHAS]
    plans += [randomised(plans[-1], number) for number in range(1, options.random + 1)]
    execution = {"device": "cpu", "batch_size": options.batch_size}
    model = load_sweep_model(
        "amber", {"pretrained": options.model, "dtype": "float32", **execution}
    )
    manager = task_manager()
    timed(model, plans[0], manager, 1)  # loads the tasks
    with tempfile.TemporaryDirectory() as folder:
        answers = KeyedStore(Path(folder) / "answers.sqlite", "sweep")
        model.sweep(plans, answers)
        swept = [timed(model, plan, manager, options.limit, clock) for plan in plans]
        answers.close()
    model.sweep((), answers)
    plain = [timed(model, plan, manager, options.limit, clock) for plan in plans]
    times = {"plain": sum(t for t, _ in plain), "sweep": sum(t for t, _ in swept)}
    print(f"{len(plans)} plain runs   {times['plain']:8.1f} s")
    print(f"one sweep       {times['sweep']:8.1f} s  (first configuration {swept[0][0]:.1f} s)")
    differing = differences([a for _, a in plain], [a for _, a in swept])
    number = sum(len(rows) for _, answer in plain for rows in answer.values())
    print(f"answers equal: {number - len(differing)} of {number}")
    for one, other in differing:
        print("  plain", one, "sweep", other)
    print(f"plain / sweep = {times['plain'] / times['sweep']:.1f}")


if __name__ == "__main__":
    main()

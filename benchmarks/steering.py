"""What steering costs: the harness's requests of trust_suite, steered against plain ``hf``.

Both run in turns in one process, on the same prompts and the same weights in memory (two copies of
a model differ by several per cent for where they happen to lie). α is so small that the hooks do
all their work and the answers stay the same, so that both generate equally many tokens.

    LM_EVAL_TRUST_DATA=FOLDER LM_EVAL_TRUST_SMOLLM2=FOLDER python benchmarks/steering.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

SETTINGS = {"truth_judge": "reference", "toxicity_judge": "linear"}


def requests(limit: int) -> list[Instance]:
    """The generation requests of all tasks of the suite."""
    tasks = TaskManager(metadata=SETTINGS).load(["trust_suite"])["tasks"].values()
    found: list[Instance] = []
    for task in tasks:
        task.set_fewshot_seed(1234)
        task.build_all_requests(limit=limit)
        found += task.instances
    return found


def seconds(lm: HFLM, wanted: list[Instance]) -> tuple[float, list[str]]:
    """Time of answering all requests, and the answers."""
    start = time.perf_counter()
    answers = lm.generate_until(wanted, disable_tqdm=True)
    return time.perf_counter() - start, answers


def main() -> None:
    """Print both medians, their ratio, and whether the answers agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--limit", type=int, default=8, help="items of each task")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--layer", type=int, default=15)
    options = parser.parse_args()
    execution = {"device": "cpu", "batch_size": 8}
    arguments = {"pretrained": options.model, "dtype": "float32"}
    steered = get_model("amber").create_from_arg_obj(arguments, execution)
    plain = HFLM(pretrained=steered.model, tokenizer=steered.tokenizer, batch_size=8)
    direction = torch.randn(plain.config.hidden_size, generator=torch.Generator().manual_seed(0))
    steered.steer_by(SteeringPlan((SteeringStep(options.layer, direction, alpha=1e-12),)))
    wanted = requests(options.limit)
    models = {"hf": plain, "steered": steered}
    answers = {name: seconds(lm, wanted)[1] for name, lm in models.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in models}
    for run in range(options.runs):
        order = list(models) if run % 2 == 0 else list(models)[::-1]
        for name in order:
            times[name].append(seconds(models[name], wanted)[0])
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:8} {medians[name]:7.2f} s  of " + " ".join(f"{t:.2f}" for t in values))
    print(f"requests {len(wanted)}, answers equal: {answers['hf'] == answers['steered']}")
    print(f"steered / hf = {medians['steered'] / medians['hf']:.3f}")


if __name__ == "__main__":
    main()

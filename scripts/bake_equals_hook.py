"""A baked model under the stock harness against the hooked one: every metric and every answer.

Builds a TruthfulQA vector of SmolLM2 on the development half, bakes it at all positions, and runs
`trust_suite` on the test half with the stock `lm_eval` command, once with `hf` on the baked folder
and once with `steered_amber`, `positions=all`, on the base.

    python scripts/bake_equals_hook.py [--limit 40] [--layer 15] [--alpha 2] [--out bake-out]

The model is the folder LM_EVAL_TRUST_SMOLLM2; data comes from LM_EVAL_TRUST_DATA or the Hub.
Ends with exit code 1 if a metric differs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

from smollm2 import JUDGES, command

from lm_eval_trust.core.saved_runs import SavedRun, find_runs
from lm_eval_trust.core.storage import cache_dir


def main() -> int:
    """Build, bake, evaluate twice, compare."""
    options = arguments()
    model = os.environ.get("LM_EVAL_TRUST_SMOLLM2")
    model = model or str(cache_dir() / "models" / "smollm2-135m-instruct")
    vector, baked = options.out / "truthfulqa.safetensors", options.out / "baked"
    strength = ("--layer", str(options.layer), "--alpha", str(options.alpha))
    options.out.mkdir(parents=True, exist_ok=True)
    command(
        *("lm-eval-trust", "vector", "build", "--model", model, "--dimension", "truthfulqa"),
        *("--layers", str(options.layer), "--out", str(vector)),
    )
    command(
        *("lm-eval-trust", "bake", "--model", model, "--vector", str(vector), *strength),
        *("--out", str(baked)),
    )
    steering = f"vector={vector},layer={options.layer},alpha={options.alpha},positions=all"
    hooked = evaluate("steered_amber", f"pretrained={model},{steering}", options)
    stock = evaluate("hf", f"pretrained={baked}", options)
    same = compare_metrics(hooked, stock)
    compare_answers(hooked, stock)
    return 0 if same else 1


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=40, help="items a task (40)")
    parser.add_argument("--alpha", type=float, default=2.0, help="strength (2)")
    parser.add_argument("--layer", type=int, default=15, help="decoder block, 0-based (15)")
    parser.add_argument("--out", type=Path, default=Path("bake-out"), help="folder (bake-out)")
    return parser.parse_args()


def evaluate(model: str, model_args: str, options: argparse.Namespace) -> SavedRun:
    """Run the stock harness and return the run that it saved."""
    out = options.out / model
    command(
        *("lm_eval", "run", "--model", model, "--model_args", f"{model_args},dtype=float32"),
        *("--tasks", "trust_suite", "--metadata", *JUDGES, "--limit", str(options.limit)),
        *("--batch_size", "8", "--log_samples", "--output_path", str(out)),
    )
    return max(find_runs([out]), key=lambda run: run.date)


def compare_metrics(hooked: SavedRun, stock: SavedRun) -> bool:
    """Print every number of every task that differs, and how many there are."""
    first, second = numbers(hooked), numbers(stock)
    if first.keys() != second.keys():
        print(f"\nmetrics of one run only: {sorted(first.keys() ^ second.keys())}")
        return False
    differing = [name for name in first if not equal(first[name], second[name])]
    for name in differing:
        print(f"{' '.join(name)}: hooked {first[name]!r}, baked {second[name]!r}")
    print(f"\nmetrics: {len(first) - len(differing)} of {len(first)} identical")
    for (task, metric), value in first.items():
        if metric.startswith("trust_score,"):
            print(f"  {task}: hooked {value:.4f}, baked {second[task, metric]:.4f}")
    return not differing


def numbers(run: SavedRun) -> dict[tuple[str, str], float]:
    """Return (task, metric) → value, standard errors included."""
    return {
        (task, metric): value
        for task, scores in run.results["results"].items()
        for metric, value in scores.items()
        if isinstance(value, float)
    }


def equal(first: float, second: float) -> bool:
    """Whether two numbers are the same, two NaNs among them."""
    return first == second or (math.isnan(first) and math.isnan(second))


def compare_answers(hooked: SavedRun, stock: SavedRun) -> None:
    """Print, task by task, how many samples were answered alike, and the answers that were not."""
    for task in hooked.tasks:
        pairs = list(zip(hooked.samples(task), stock.samples(task), strict=True))
        differing = [(a, b) for a, b in pairs if responses(a) != responses(b)]
        print(f"answers of {task}: {len(pairs) - len(differing)} of {len(pairs)} identical")
        for first, second in differing:
            print(f"  item {first['doc_id']}: {responses(first)!r} against {responses(second)!r}")


def responses(sample: dict[str, Any]) -> Any:
    """Return what the model answered, before any filter."""
    return sample["resps"]


if __name__ == "__main__":
    sys.exit(main())

"""A first real evaluation: SmolLM2 as it is, and steered by a TruthfulQA vector.

Builds the vector on the development half, runs `trust_suite` on the test half with the stock
`lm_eval` command for `hf` and for `steered_amber`, and prints both rows.

    python scripts/smollm2.py [--limit 20] [--alpha 2] [--layer 15] [--out smollm2-out]

The model is the folder LM_EVAL_TRUST_SMOLLM2; data comes from LM_EVAL_TRUST_DATA or the Hub.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.core.storage import cache_dir

BIN = Path(sys.executable).parent
JUDGES = ("truth_judge=reference", "toxicity_judge=linear")


def main() -> int:
    """Build the vector, evaluate twice, print the table."""
    options = arguments()
    model = os.environ.get("LM_EVAL_TRUST_SMOLLM2")
    model = model or str(cache_dir() / "models" / "smollm2-135m-instruct")
    vector = options.out / "truthfulqa.safetensors"
    pretrained = f"pretrained={model},dtype=float32"
    steering = f"vector={vector},layer={options.layer},alpha={options.alpha}"
    options.out.mkdir(parents=True, exist_ok=True)
    command(
        *("lm-eval-trust", "vector", "build", "--model", model, "--dimension", "truthfulqa"),
        *("--layers", str(options.layer), "--out", str(vector)),
    )
    rows = {
        "hf": evaluate("hf", pretrained, options),
        f"steered_amber, α = {options.alpha:g}": evaluate(
            "steered_amber", f"{pretrained},{steering}", options
        ),
    }
    print(table(rows, options))
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=20, help="items a task (20)")
    parser.add_argument("--alpha", type=float, default=2.0, help="strength (2)")
    parser.add_argument("--layer", type=int, default=15, help="decoder block, 0-based (15)")
    parser.add_argument(
        "--out", type=Path, default=Path("smollm2-out"), help="folder (smollm2-out)"
    )
    return parser.parse_args()


def evaluate(model: str, model_args: str, options: argparse.Namespace) -> dict[str, float]:
    """Run the stock harness and return each task's score, from the results file that it wrote."""
    out = options.out / model
    command(
        *("lm_eval", "run", "--model", model, "--model_args", model_args),
        *("--tasks", "trust_suite", "--metadata", *JUDGES),
        *("--limit", str(options.limit), "--batch_size", "8", "--output_path", str(out)),
    )
    newest = max(out.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text(encoding="utf-8"))["results"]
    return {task: score(results[task]) for task in columns()}


def columns() -> list[str]:
    """Return the tasks of the table, and the group that averages them."""
    return [*(dimension.task for dimension in DIMENSIONS if dimension.task), "trust_suite"]


def score(result: dict[str, float]) -> float:
    """Return the task's `trust_score`, under whichever filter it stands."""
    return next(value for name, value in result.items() if name.startswith("trust_score,"))


def table(rows: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    """Return the rows as text, under the tasks' names."""
    label = max(map(len, rows))
    lines = [f"\ntrust_score (0 to 1, higher is better), {options.limit} items a task"]
    lines.append("  ".join([" " * label, *columns()]))
    for name, scores in rows.items():
        cells = [f"{scores[task]:.3f}".rjust(len(task)) for task in columns()]
        lines.append("  ".join([name.ljust(label), *cells]))
    return "\n".join(lines)


def command(program: str, *rest: str) -> None:
    """Run a command of this environment, shown first; its failure ends the script."""
    print(f"\n$ {shlex.join([program, *rest])}", flush=True)
    result = subprocess.run([str(BIN / program), *rest], check=False)
    if result.returncode:
        print(
            f"{Path(sys.argv[0]).stem}: {program} ended with exit code {result.returncode}; its "
            f"message stands above. `lm-eval-trust doctor` shows what is missing.",
            file=sys.stderr,
        )
        sys.exit(result.returncode)


if __name__ == "__main__":
    sys.exit(main())

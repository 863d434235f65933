"""Eight real rows for a leaderboard: SmolLM2 as it is, steered, tuned, proxy-tuned and baked.

    python scripts/leaderboard_rows.py [--limit 40] [--out leaderboard-rows]

Builds three vectors, a LoRA adapter and a baked model, evaluates each row with the stock `lm_eval`
command, and writes the leaderboard in all formats. What is there already is not made again, so
that an interrupted run goes on.

The model is the folder LM_EVAL_TRUST_SMOLLM2; data comes from LM_EVAL_TRUST_DATA or the Hub.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smollm2 import JUDGES, command

from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.storage import atomic_path, cache_dir

TASKS = "trust_suite,trust_arc_challenge_local,trust_lambada_openai_local"
#: Dimension of a vector → its benchmark, by which the command knows it too.
VECTORS = ("reliability", "toxicity", "fairness")
LAYER, ALPHA, LORA_STEPS = 15, 2, 40


@dataclass(frozen=True)
class Row:
    """One evaluation: its name in the table, the model and its arguments."""

    name: str
    model: str
    arguments: str


def main() -> int:
    """Make what rows need, evaluate them, and compare."""
    options = arguments()
    model = os.environ.get("LM_EVAL_TRUST_SMOLLM2")
    model = model or str(cache_dir() / "models" / "smollm2-135m-instruct")
    made = options.out / "made"
    for dimension in VECTORS:
        vector(model, dimension, made / f"{dimension}.safetensors")
    adapter(model, made / "lora")
    bake(model, made / "reliability.safetensors", made / "baked")
    names = []
    for row in rows(model, made):
        names.append(f"{evaluate(row, options)}={row.name}")
    folders = [name.rpartition("=")[0] for name in names]
    command(
        *("lm-eval-trust", "leaderboard", *folders, "--with-paper", "--names", *names),
        *("--reference", "SmolLM2", "--out", str(options.out / "leaderboard")),
    )
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=40, help="items a task (40)")
    parser.add_argument("--tasks", default=TASKS, help=f"of the harness ({TASKS})")
    parser.add_argument("--batch-size", type=int, default=8, help="of the harness (8)")
    parser.add_argument(
        "--out", type=Path, default=Path("leaderboard-rows"), help="folder (leaderboard-rows)"
    )
    return parser.parse_args()


def rows(model: str, made: Path) -> Iterator[Row]:
    """Yield the table's rows."""
    plain = f"pretrained={model},dtype=float32"
    yield Row("SmolLM2", "amber", plain)
    yield Row("SmolLM2, hf", "hf", plain)
    for dimension in VECTORS:
        steering = f"vector={made / dimension}.safetensors,layer={LAYER},alpha={ALPHA}"
        yield Row(f"+ v({dimension})", "steered_amber", f"{plain},{steering}")
    yield Row("LoRA", "lora_amber", f"{plain},adapter={made / 'lora'}")
    # At α = 1 with base and anti-expert the same, the ensemble would be the expert itself.
    proxy = f"expert={made / 'lora'},antiexpert={model},proxy_alpha=1.5"
    yield Row("proxy, α 1.5", "proxy_amber", f"{plain},{proxy}")
    yield Row("baked v(reliability), hf", "hf", f"pretrained={made / 'baked'},dtype=float32")


def vector(model: str, dimension: str, out: Path) -> None:
    """Build a vector on the training part."""
    if not out.exists():
        command(
            *("lm-eval-trust", "vector", "build", "--model", model, "--dimension", dimension),
            *("--layers", str(LAYER), "--out", str(out)),
        )


def adapter(model: str, out: Path) -> None:
    """Train an adapter; a finished one is found, an interrupted one goes on."""
    command(
        *("lm-eval-trust", "finetune", "--method", "lora", "--model", model),
        *("--dimension", "truthfulqa", "--max-steps", str(LORA_STEPS), "--out", str(out)),
    )


def bake(model: str, steering: Path, out: Path) -> None:
    """Write the steered model as a plain folder; one that is there is found."""
    command(
        *("lm-eval-trust", "bake", "--model", model, "--vector", str(steering)),
        *("--layer", str(LAYER), "--alpha", str(ALPHA), "--out", str(out)),
    )


def evaluate(row: Row, options: argparse.Namespace) -> Path:
    """Run the harness unless this very evaluation is there, and return its folder."""
    words = (
        *("lm_eval", "run", "--model", row.model, "--model_args", row.arguments),
        *("--tasks", options.tasks, "--metadata", *JUDGES, "--limit", str(options.limit)),
        *("--batch_size", str(options.batch_size), "--log_samples"),
    )
    folder: Path = options.out / "rows" / content_id(*words)
    done = folder / "command.txt"
    if not done.exists():
        # The harness writes results before samples, so what has no mark may lack some.
        shutil.rmtree(folder, ignore_errors=True)
        command(*words, "--output_path", str(folder))
        with atomic_path(done) as path:
            path.write_text(shlex.join(words) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    sys.exit(main())

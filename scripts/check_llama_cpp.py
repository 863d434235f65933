"""A GGUF control vector in llama.cpp against our hook: does it do the same, at the same layer?

    pip install llama-cpp-python        (compiles; another interpreter's will do)
    python scripts/check_llama_cpp.py --vector v.safetensors [--layer 15] [--alpha 2]
        [--python PYTHON] [--gguf MODEL.gguf] [--baked BAKED.gguf]

Exports the vector, lets llama.cpp run SmolLM2's GGUF file with and without it, and compares the
change of its logits with the change that our hook makes in the same model in float32: the cosine
of the two changes at each prompt's last token, for the hook at the exported layer and, to see
that the layers are counted alike, at its neighbours. The GGUF file of SmolLM2 is quantised
(Q4_1), so that the changes are not equal; one that was converted in float32
(`convert_hf_to_gguf.py --outtype f32`) is nearer. `--baked` compares a baked model's GGUF file as
well. Ends with exit code 1 if a cosine is below the limit, a neighbour's is higher, or no text
changes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepare_smollm2 import download

from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.steering.bake_verify import prompt_tokens
from lm_eval_trust.steering.foreign_vectors import write_llama_cpp
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.vectors import load_vector

#: Least cosine of the two changes, at the last token of a prompt; what quantisation leaves of 1.
NEAR = 0.8
NEW_TOKENS = 24

Logits = list["np.ndarray[Any, np.dtype[np.float32]]"]


def main() -> int:
    """Export, run both, compare."""
    options = arguments()
    name = os.environ.get("LM_EVAL_TRUST_SMOLLM2")
    name = name or str(cache_dir() / "models" / "smollm2-135m-instruct")
    model, tokenizer, _ = load_source(name, dtype="float32", device="cpu")
    rows = prompt_tokens(model, tokenizer)
    vector = load_vector(options.vector)
    direction = vector.layer(options.layer).scaled(options.scale)
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "control.gguf"
        settings = {"layers": [options.layer], "alpha": options.alpha, "scale": options.scale}
        write_llama_cpp(vector, control, **settings)
        gguf = options.gguf or download(Path(folder))
        theirs = run_llama_cpp(options.python, gguf, control, rows, Path(folder))
        baked = options.baked and run_llama_cpp(
            options.python, options.baked, None, rows, Path(folder)
        )
    plain = ours(model, rows, SteeringPlan())
    hooked = {
        layer: ours(model, rows, plan_of(layer, direction, options.alpha))
        for layer in (options.layer - 1, options.layer, options.layer + 1)
    }
    good = compare(theirs, plain, hooked, options.layer)
    changed = show_texts(theirs, len(rows))
    if baked:
        compare_baked(baked, theirs, hooked[options.layer], plain)
    return 0 if good and changed else 1


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vector", type=Path, required=True, help="steering vector of SmolLM2")
    parser.add_argument("--layer", type=int, default=15, help="decoder block, 0-based (15)")
    parser.add_argument("--alpha", type=float, default=2.0, help="strength (2)")
    parser.add_argument("--scale", default="projection_std", help="(projection_std)")
    parser.add_argument("--python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--gguf", type=Path, help="model file (default: from its PyPI wheel)")
    parser.add_argument("--baked", type=Path, help="GGUF file of the baked model")
    return parser.parse_args()


def plan_of(layer: int, direction: torch.Tensor, alpha: float) -> SteeringPlan:
    """Return the plan that adds the direction at a layer, at every position."""
    return SteeringPlan((SteeringStep(layer, direction, alpha, positions="all"),))


@torch.no_grad()
def ours(model: Any, rows: list[list[int]], plan: SteeringPlan) -> Logits:
    """Return our logits of each row, shape (tokens, vocabulary)."""
    with Steerer(model, plan).apply():
        return [model(torch.tensor([row])).logits[0].numpy() for row in rows]


def run_llama_cpp(
    python: str, gguf: Path, control: Path | None, rows: list[list[int]], folder: Path
) -> Any:
    """Run llama.cpp in the interpreter that has it; return its arrays by name."""
    job, out = folder / "job.json", folder / f"{gguf.stem}.npz"
    settings = {"model": str(gguf), "control": control and str(control), "rows": rows}
    job.write_text(json.dumps(settings | {"new_tokens": NEW_TOKENS}), encoding="utf-8")
    script = Path(__file__).with_name("llama_cpp_logits.py")
    subprocess.run([python, str(script), str(job), str(out)], check=True)
    with np.load(out) as arrays:
        return dict(arrays)


def compare(theirs: Any, plain: Logits, hooked: dict[int, Logits], layer: int) -> bool:
    """Print the cosines of the changes, and tell whether llama.cpp does what our hook does."""
    print(f"\ncosine of the change of logits at the last token: llama.cpp with direction.{layer}")
    print("against our hook at block " + "  ".join(f"{each:>7}" for each in hooked) + "   size")
    good = True
    for i, unsteered in enumerate(plain):
        change = (theirs[f"steered_{i}"] - theirs[f"plain_{i}"])[-1]
        mine = {each: (rows[i] - unsteered)[-1] for each, rows in hooked.items()}
        cosines = {each: cosine(change, other) for each, other in mine.items()}
        size = float(np.linalg.norm(change) / np.linalg.norm(mine[layer]))
        line = "  ".join(f"{value:7.4f}" for value in cosines.values())
        print(f"prompt {i + 1} ({len(unsteered)} tokens)".ljust(26) + f"{line}  {size:.3f}")
        good &= cosines[layer] >= NEAR and max(cosines.values()) == cosines[layer]
    return good


def cosine(first: Any, second: Any) -> float:
    """Return the cosine of two vectors."""
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def show_texts(theirs: Any, rows: int) -> bool:
    """Print llama.cpp's greedy continuations; tell whether any changes."""
    texts = [
        (str(theirs[f"plain_text_{i}"]), str(theirs[f"steered_text_{i}"])) for i in range(rows)
    ]
    for i, (before, after) in enumerate(texts):
        print(f"prompt {i + 1}: {before!r}\n  steered {after!r}")
    changed = sum(before != after for before, after in texts)
    print(f"texts that change: {changed} of {rows}")
    return changed > 0


def compare_baked(baked: Any, theirs: Any, hooked: Logits, plain: Logits) -> None:
    """Print how near a baked model in llama.cpp is to our hooked one, and the base to the base."""
    print(
        f"baked model in llama.cpp: largest difference of a logit from our hooked model "
        f"{largest(baked, hooked):.4f}, from the unsteered one {largest(baked, plain):.4f}; of the "
        f"base in llama.cpp from the base here {largest(theirs, plain):.4f}"
    )


def largest(theirs: Any, ours: Logits) -> float:
    """Return the largest difference of a logit over all rows."""
    return max(float(np.abs(theirs[f"plain_{i}"] - row).max()) for i, row in enumerate(ours))


if __name__ == "__main__":
    sys.exit(main())

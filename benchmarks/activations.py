"""How much faster batched extraction is than one statement at a time, and how far they differ.

Both read the first 400 statements of the released StereoSet file with SmolLM2, all 30 blocks, in
float32. One at a time is the plain way: the whole model with `output_hidden_states=True`. The two
take turns, a part of the single statements and then all of the batches, so that both see the same
load of the machine. Differences are norms of a difference over the norm, the largest of all
statements and layers; a few statements are also compared with a double-precision run.

    LM_EVAL_TRUST_DATA=… LM_EVAL_TRUST_SMOLLM2=… python benchmarks/activations.py [--threads 2]
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.decoder_blocks import decoder_blocks, number_of_blocks
from lm_eval_trust.models.sources import load_source

STATEMENTS = 400
IN_DOUBLE = 8


def read_texts() -> list[str]:
    path = Path(os.environ["LM_EVAL_TRUST_DATA"], "tracingllm", "stereoset.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [row["statement"] for row in csv.DictReader(file)][:STATEMENTS]


@torch.inference_mode()
def one_at_a_time(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Outputs of all blocks at the last token; the last entry of hidden_states is normalised."""
    last: list[torch.Tensor] = []
    handle = decoder_blocks(model)[-1].register_forward_hook(
        lambda module, inputs, output: last.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    found = []
    for text in texts:
        states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        blocks = (*states.hidden_states[1:-1], last.pop())
        found.append(torch.stack([block[0, -1] for block in blocks]).numpy())
    handle.remove()
    return np.stack(found)


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    difference = np.linalg.norm(found.astype(np.float64) - expected, axis=-1)
    return float((difference / np.linalg.norm(expected.astype(np.float64), axis=-1)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer, _ = load_source(os.environ["LM_EVAL_TRUST_SMOLLM2"], device="cpu")
    texts, layers = read_texts(), range(number_of_blocks(model))

    def batched(chosen: list[str]) -> np.ndarray:
        return extract_activations(model, tokenizer, chosen, layers=layers, progress=False)

    one_at_a_time(model, tokenizer, texts[:5])
    batched(texts[:50])
    singles: dict[int, np.ndarray] = {}
    ratios = []
    for turn in range(arguments.rounds):
        part = range(turn, len(texts), arguments.rounds)
        begin = time.perf_counter()
        values = one_at_a_time(model, tokenizer, [texts[i] for i in part])
        single = (time.perf_counter() - begin) / len(part)
        singles |= dict(zip(part, values, strict=True))
        begin = time.perf_counter()
        together = batched(texts)
        batch = (time.perf_counter() - begin) / len(texts)
        ratios.append(single / batch)
        print(
            f"one at a time {1000 * single:.1f} ms, batched {1000 * batch:.1f} ms a statement: "
            f"{ratios[-1]:.2f} times faster"
        )
    expected = np.stack([singles[i] for i in range(len(texts))])
    print(f"median of {len(ratios)} rounds: {statistics.median(ratios):.2f} times faster")
    print(f"largest relative difference: {relative_difference(together, expected):.1e}")
    few = slice(0, len(texts), len(texts) // IN_DOUBLE)
    exact = one_at_a_time(model.double(), tokenizer, texts[few])
    print(f"to double precision: batched {relative_difference(together[few], exact):.1e}, ", end="")
    print(f"one at a time {relative_difference(expected[few], exact):.1e}")


if __name__ == "__main__":
    main()

"""List the samples on which two runs of the same tasks disagree, and how near the logits were.

    python scripts/compare_answers.py OUT_ONE OUT_OTHER --model steered_amber \
        --model_args pretrained=FOLDER,vector=v.safetensors,layer=15,alpha=2,dtype=float32

A generation that differs is made once more, alone, and the gap between the two largest logits at
the first token that differs is printed. Log-likelihoods count as equal up to `--nats`. Exit code 0
if every difference is explained by a gap under the limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

Sample = dict[str, Any]


def read_samples(folder: Path) -> dict[tuple[str, int], Sample]:
    """The samples of a run's newest files, by task and document."""
    newest: dict[str, Path] = {}
    for file in sorted(folder.rglob("samples_*.jsonl"), key=lambda path: path.stat().st_mtime):
        newest[file.name.removeprefix("samples_").rsplit("_", 1)[0]] = file
    if not newest:
        raise SystemExit(f"{folder} holds no samples_*.jsonl; run lm_eval with --log_samples.")
    return {
        (task, sample["doc_id"]): sample
        for task, file in newest.items()
        for sample in map(json.loads, file.read_text(encoding="utf-8").splitlines())
    }


def distance(one: Sample, other: Sample) -> float:
    """How far two samples' log-likelihoods are apart, in nats; infinite if generations differ."""
    found = [0.0]
    for pair in zip(one["resps"], other["resps"], strict=True):
        for left, right in zip(*pair, strict=True):
            if isinstance(left, str):
                found.append(0.0 if left == right else math.inf)
            else:  # Log-likelihood, and whether greedy decoding gives it.
                found.append(abs(float(left[0]) - float(right[0])))
    return max(found)


def gap_at_first_difference(lm: Any, request: Sample, other: str) -> float:
    """Gap of the two largest logits where a generation alone leaves the other answer's tokens."""
    prompt, settings = request["arg_0"], request["arg_1"]
    context, mask = lm.tok_batch_encode([prompt])
    output = lm._model_generate(
        context,
        context.shape[1] + settings["max_gen_toks"],
        [],
        attention_mask=mask,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = output.sequences[0, context.shape[1] :].tolist()
    theirs = lm.tok_encode(prompt + other)[context.shape[1] :]
    pairs = zip(tokens, theirs, strict=False)
    step = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    top = output.logits[min(step, len(output.logits) - 1)][0].topk(2).values
    return float(top[0] - top[1])


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--model", default="amber")
    parser.add_argument("--model_args", default="")
    parser.add_argument("--nats", type=float, default=2e-3, help="rounding of log-likelihoods")
    parser.add_argument("--limit", type=float, default=1e-4, help="gap that counts as a near-tie")
    options = parser.parse_args()
    one, other = read_samples(options.one), read_samples(options.other)
    if one.keys() != other.keys():
        raise SystemExit(f"The runs hold different samples: {len(one)} and {len(other)}.")
    off = {key: distance(one[key], other[key]) for key in one}
    differing = [key for key, nats in off.items() if nats > options.nats]
    scored = [nats for nats in off.values() if nats < math.inf]
    print(f"{len(one)} samples, {len(one) - len(differing)} equal, {len(differing)} different")
    print(f"log-likelihoods: at most {max(scored, default=0.0):.1e} nats apart")
    if not differing:
        return 0
    from lm_eval.api.registry import get_model

    lm = get_model(options.model).create_from_arg_string(options.model_args, {"device": "cpu"})
    unexplained = 0
    for task, doc in differing:
        pair = one[task, doc], other[task, doc]
        for number, answers in enumerate(zip(*(sample["resps"] for sample in pair), strict=True)):
            if not isinstance(answers[0][0], str):
                unexplained += 1
                print(f"{task} {doc}: {off[task, doc]:.1e} nats  {answers[0]} | {answers[1]}")
            elif answers[0] != answers[1]:
                request = pair[0]["arguments"][f"gen_args_{number}"]
                gap = gap_at_first_difference(lm, request, answers[1][0])
                unexplained += gap >= options.limit
                print(f"{task} {doc}: gap {gap:.1e}  {answers[0][0]!r} | {answers[1][0]!r}")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())

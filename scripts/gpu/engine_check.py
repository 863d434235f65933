"""A random Llama, its steered scores by our hooks on transformers, and whether vLLM gives them.

Called by engine.sh: `make` writes the model, `beside` the scores on transformers, and `inside`
compares those of an engine. Exit code 1 if a plan's scores are further from the hooks' than a
tenth of what the plan moves, which leaves room for bfloat16 and for nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

SHAPES = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4},
}
HEADS = {"7b": 32, "tiny": 2}
VOCABULARY = 32000
#: Largest share of what a plan moves by which its scores may be off.
OFF = 0.1
PROMPTS = ("The capital of France is", "Once upon a time there was a village", "One")
CONTINUATIONS = (" Paris, and then", " no one.")


def make(folder: Path, shape: str, dtype: torch.dtype, device: str) -> None:
    """Write a model with random weights, and a tokenizer of bytes for it."""
    if (folder / "config.json").is_file():
        return
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        num_attention_heads=HEADS[shape],
        max_position_embeddings=4096,
        bos_token_id=256,
        eos_token_id=257,
        **SHAPES[shape],
    )
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        LlamaForCausalLM(config).save_pretrained(folder)
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    rest = {f"<{number}>": number for number in range(len(letters), VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=letters | rest, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<256>", eos_token="<257>", pad_token="<258>"
    ).save_pretrained(folder)


def plans(folder: Path) -> dict[str, SteeringPlan]:
    """What is compared: each action and position that compiled graphs can run, at three layers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width, blocks = config["hidden_size"], config["num_hidden_layers"]
    random = torch.Generator().manual_seed(1)
    layers = itertools.cycle((0, blocks // 2, blocks - 1))
    found = {"unsteered": SteeringPlan()}
    for action, where in itertools.product(
        ("add", "clamp", "ablate"), ("all", "generated", "last_prompt")
    ):
        layer, vector = next(layers), torch.randn(width, generator=random)
        target = float(width) ** 0.5 if action == "clamp" else None
        step = SteeringStep(layer, vector, 1.0, action, where, target)
        found[f"{action} {where} {layer}"] = SteeringPlan((step,))
    return found


def scores(model: Any, folder: Path) -> dict[str, list[float]]:
    """Log-likelihoods of continuations under each plan."""
    pairs = itertools.product(PROMPTS, CONTINUATIONS)
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    found = {}
    for name, plan in plans(folder).items():
        model.steer_by(plan)
        found[name] = [score for score, _ in model.loglikelihood(asked, True)]
    return found


def compare(found: dict[str, list[float]], wanted: dict[str, list[float]]) -> bool:
    """Print how far scores are off, beside how far the plan moves them; whether all are near."""
    plain, near = np.array(wanted["unsteered"]), True
    for name, values in found.items():
        off = float(np.abs(np.array(values) - wanted[name]).mean())
        moved = float(np.abs(np.array(wanted[name]) - plain).mean())
        # The unsteered model has rounding alone.
        good = off <= OFF * moved if name != "unsteered" else off < 0.5
        near &= good
        print(f"{name:28} off {off:9.5f} nats, moved {moved:8.4f}  {'' if good else 'TOO FAR'}")
    return near


def main() -> int:
    """Do one part; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["make", "beside", "inside"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=list(SHAPES), default="7b")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="compiled")
    parser.add_argument("--answers", type=Path)
    options = parser.parse_args()
    given = {"pretrained": str(options.model), "dtype": options.dtype}
    if options.part == "make":
        make(options.model, options.shape, getattr(torch, options.dtype), options.device)
    elif options.part == "beside":
        model = get_model("amber")(**given, device=options.device, batch_size=8)
        options.answers.write_text(json.dumps(scores(model, options.model)), encoding="utf-8")
    else:
        first = next(iter(plans(options.model)["add all 0"].active_steps))
        vector = options.answers.with_name("v_layer0.pt")
        torch.save(first.vector, vector)
        unsteered = {"vector": str(vector), "layer": 0, "alpha": 0, "scale": "none"}
        eager = options.mode == "eager"
        model = get_model("steered_vllm")(
            **given, **unsteered, enforce_eager=eager, max_model_len=1024
        )
        wanted = json.loads(options.answers.read_text(encoding="utf-8"))
        return 0 if compare(scores(model, options.model), wanted) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Mixtures of experts are swept as they are evaluated; state-space models keep their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.conformance import PROMPTS, generation_requests, random_vector, scoring_requests
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.sweep_model import load_sweep_model

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 256, "pad_token_id": 0}
ATTENTION = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
}
MODELS: dict[str, Callable[[], Any]] = {
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SHAPE, **ATTENTION, num_experts=4, moe_intermediate_size=32
    ),
    "gpt_oss": lambda: transformers.GptOssConfig(
        **SHAPE, **ATTENTION, num_local_experts=4, intermediate_size=32, sliding_window=16
    ),
    "mamba": lambda: transformers.MambaConfig(**SHAPE),
}
VECTOR = random_vector(32, (0, 1, 2), norm=6.0, seed=1)
PLANS = [
    SteeringPlan(),
    SteeringPlan.from_vector(VECTOR, [1], alpha=1.0, scale="none"),
    SteeringPlan.from_vector(VECTOR, [2], alpha=2.0, positions="all", scale="none"),
]


@pytest.fixture
def build(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        config = MODELS[name]()
        config.vocab_size = max(config.vocab_size, len(tokenizer))
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss"])
def test_a_mixture_of_experts_is_swept_as_it_is_evaluated(
    name: str, build: Callable[[str], Path], tmp_path: Path
) -> None:
    arguments = {"pretrained": str(build(name)), "dtype": "float32", "device": "cpu"}
    model = load_sweep_model("amber", {**arguments, "batch_size": 4})
    writing = generation_requests(PROMPTS[:4], max_gen_toks=5)
    scoring = scoring_requests([(prompt, " yes") for prompt in PROMPTS[:4]])

    def answers(plan: SteeringPlan) -> tuple[list[str], list[float]]:
        model.steer_by(plan)
        written = model.generate_until(writing, disable_tqdm=True)
        return written, [score for score, _ in model.loglikelihood(scoring, disable_tqdm=True)]

    alone = [answers(plan) for plan in PLANS]
    with KeyedStore(tmp_path / "answers", "sweep") as store:
        model.sweep(PLANS, store)
        for plan, (written, scores) in zip(PLANS, alone, strict=True):
            found = answers(plan)
            assert found[0] == written
            assert found[1] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("positions", ["generated", "all", "last_prompt"])
def test_a_state_space_model_is_steered_alike_with_and_without_its_cache(
    positions: str, build: Callable[[str], Path]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(build("mamba"), dtype=torch.float32).eval()
    plan = SteeringPlan.from_vector(VECTOR, [1], alpha=2.0, positions=positions, scale="none")
    tokens = torch.randint(3, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    settings = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(tokens)}
    with Steerer(model, plan).apply(6), torch.inference_mode():
        cached = model.generate(tokens, use_cache=True, **settings)
        plain = model.generate(tokens, use_cache=False, **settings)
    unsteered = model.generate(tokens, **settings)
    assert cached.tolist() == plain.tolist()
    assert cached.tolist() != unsteered.tolist()

"""Families besides Llama, and compiled graphs, against the hooks; on small random models."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from support.models import build_tokenizer
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, Qwen2Config

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.sweep.sweep_model import load_sweep_model

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

WIDTH, LAYERS = 64, 3
SHAPE = {
    "vocab_size": 259,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,  # The CPU build knows no heads narrower than 32.
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, Callable[..., Any]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,  # Its attention has biases.
    "gpt_neox": GPTNeoXConfig,  # Attention and MLP side by side, and no residual kept apart.
}
ENGINE = {"dtype": "float32", "enforce_eager": True, "num_gpu_blocks_override": 32}
POSITIONS = ("all", "generated", "last_prompt")
PROMPTS = ("The capital of France is", "One", "Once upon a time there was a village by the sea,")
_random = torch.Generator().manual_seed(8)


def _saved(family: str, folder: Path) -> Path:
    torch.manual_seed(0)
    more = {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(FAMILIES[family](**SHAPE, **more))
    for name, weights in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.2)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def _plan(layer: int, action: str, positions: str) -> SteeringPlan:
    parts = {name: torch.randn(WIDTH, generator=_random) for name in ACTIONS[action].parts}
    step = SteeringStep(
        layer,
        torch.randn(WIDTH, generator=_random),
        {"add": 0.5, "rotate": 25.0}.get(action, 1.0),
        action,
        positions,
        5.0 if ACTIONS[action].needs_target else None,
        parts=parts,
    )
    return SteeringPlan((step,))


def _plans(actions: Sequence[str]) -> list[SteeringPlan]:
    ways = itertools.product(actions, POSITIONS)
    layers = itertools.cycle(range(LAYERS))
    return [SteeringPlan(), *(_plan(next(layers), *way) for way in ways)]


def _answers(model: Any, plans: Sequence[SteeringPlan]) -> list[dict[str, Any]]:
    settings = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False}
    generations = [Instance("generate_until", {}, (p, settings), i) for i, p in enumerate(PROMPTS)]
    pairs = itertools.product(PROMPTS, (" Paris", " no one."))
    scored = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    found = []
    for plan in plans:
        model.steer_by(plan)
        scores = model.loglikelihood(scored, True)
        found.append(
            {
                # vLLM holds back the bytes of a character that has not ended.
                "texts": [t.rstrip("\ufffd") for t in model.generate_until(generations, True)],
                "scores": [score for score, _ in scores],
                "greedy": [greedy for _, greedy in scores],
            }
        )
    return found


def _beside(plans: Sequence[SteeringPlan], model: str = "amber", **given: Any) -> list[Any]:
    """Answers on transformers; before vLLM starts, which changes classes of transformers."""
    loaded = get_model(model)(**given, dtype="float32", device="cpu", batch_size=4)
    return _answers(loaded, plans)


def _compare(
    inside: Any, beside: Sequence[Any], plans: Sequence[SteeringPlan], tmp_path: Path
) -> None:
    """All plans in one stream of requests, and one after the other on transformers."""
    with KeyedStore(tmp_path / "answers.sqlite", "inside") as answers:
        inside.sweep(plans, answers)
        found = _answers(inside, plans)
    for of_plan, wanted in zip(found, beside, strict=True):
        assert of_plan["texts"] == wanted["texts"]
        assert of_plan["greedy"] == wanted["greedy"]
        assert of_plan["scores"] == pytest.approx(wanted["scores"], abs=1e-3)
    assert len({str(of_plan["scores"]) for of_plan in found}) == len(plans), "all steer"


@pytest.mark.parametrize("family", ["qwen2", "gpt_neox"])
def test_other_families(family: str, tmp_path: Path) -> None:
    given = {"pretrained": str(_saved(family, tmp_path / "model"))}
    plans = _plans(("add", "clamp", "ablate", "erase", "rotate"))
    beside = _beside(plans, **given)
    engine = {**ENGINE, "max_num_batched_tokens": 32, "max_num_seqs": 8}
    inside = load_sweep_model("amber", {**given, **engine}, engine="vllm", plans=plans)
    _compare(inside, beside, plans, tmp_path)


def test_an_adapter(random_adapter: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = _saved("llama", tmp_path / "model")
    given = {"pretrained": str(folder), "adapter": str(random_adapter(folder))}
    plans = _plans(("add", "ablate"))
    beside = _beside(plans, "lora_amber", **given)
    assert _beside(plans[:1], pretrained=str(folder)) != beside[:1]
    inside = load_sweep_model("lora_amber", {**given, **ENGINE}, engine="vllm", plans=plans)
    _compare(inside, beside, plans, tmp_path)


def test_what_is_no_adapter_for_vllm(
    random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    given = {"pretrained": str(_saved("llama", tmp_path / "model"))}
    adapter = shutil.copytree(random_adapter(tmp_path / "model"), tmp_path / "adapter")
    for change, words in (
        ({}, "needs adapter="),
        ({"adapter": str(adapter), "merge": True}, "beside the weights"),
        ({"adapter": str(adapter / "none")}, "none"),
    ):
        with pytest.raises(InputError, match=words):
            get_model("lora_vllm")(**given, **change)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_dora": True}))
    with pytest.raises(InputError, match="DoRA"):
        get_model("lora_vllm")(**given, adapter=str(adapter))


def test_compiled_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "vllm"))
    given = {"pretrained": str(_saved("llama", tmp_path / "model"))}
    plans = _plans(("add", "clamp", "ablate", "erase"))
    beside = _beside(plans, **given)
    engine = {**ENGINE, "enforce_eager": False}
    inside = load_sweep_model("amber", {**given, **engine}, engine="vllm", plans=plans)
    assert not inside.model.llm_engine.model_config.enforce_eager
    _compare(inside, beside, plans, tmp_path)
    with pytest.raises(InputError, match="no affine change of rank one"):
        inside.steer_by(_plan(1, "rotate", "all"))

"""Baked models against an independent formulation of steering, over every architecture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from support.baking import distance, load, logits, some_plan, some_vector
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.amber import SteeredAmber
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.bake_biases import OUTPUT_BIASES

GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512}
SHAPES: dict[str, dict[str, Any]] = {
    "arcee": {},
    "bloom": {"n_layer": 3, "n_head": 4},
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gpt_neo": {"num_layers": 3, "num_heads": 4, "attention_types": [[["global"], 3]]},
    "gptj": GPT2 | {"rotary_dim": 4},
    "granite": {"residual_multiplier": 0.5, "embedding_multiplier": 2.0, "logits_scaling": 2.0},
    "gpt_neox": {"rotary_pct": 0.5},
    "llama": {},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "phi": {},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "qwen2": {"num_key_value_heads": 2},
    "seed_oss": {"head_dim": 8, "num_key_value_heads": 2},
    "smollm3": {"num_key_value_heads": 4, "pad_token_id": 0},
}


@pytest.fixture(scope="module")
def random_model(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """Factory of random models of an architecture; every bias that they have is random, too."""

    def build(kind: str, **settings: Any) -> Path:
        torch.manual_seed(0)
        common = {
            "vocab_size": 259,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        if "n_embd" in SHAPES[kind]:
            common = {k: v for k, v in common.items() if "size" not in k or k == "vocab_size"}
        if {"n_embd", "n_layer", "num_layers"} & set(SHAPES[kind]):
            common = {k: v for k, v in common.items() if not k.startswith(("num_", "max_"))}
        config = AutoConfig.for_model(kind, **(common | SHAPES[kind] | settings))
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


def test_every_known_architecture_is_tested() -> None:
    assert set(SHAPES) == set(OUTPUT_BIASES)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_a_baked_model_gives_the_hooked_models_logits(
    random_model: Callable[..., Path], tmp_path: Path, kind: str, layers: tuple[int, ...]
) -> None:
    folder, out = random_model(kind), tmp_path / "baked"
    result = bake(Bake(find_source(str(folder)), some_plan(layers)), out)
    base = load(folder)
    hooked = logits(base, {i: 2 * some_vector().layer(i).direction for i in layers})
    assert distance(logits(load(out)), hooked) < 1e-4
    assert distance(logits(base), hooked) > 0.5
    assert not result.found and result.agreement.holds
    assert result.agreement.from_hooked < 1e-4 < 0.5 < result.agreement.from_unsteered


@pytest.mark.parametrize("kind", ["mistral", "phi3", "qwen2"])
def test_a_model_that_is_a_llama_but_for_its_biases_is_written_as_one(
    random_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    folder, out = random_model(kind, tie_word_embeddings=kind == "qwen2"), tmp_path / "baked"
    bake(Bake(find_source(str(folder)), some_plan((0, 2))), out)
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["mlp_bias"] is True
    assert config["attention_bias"] is (kind == "qwen2")
    assert config["tie_word_embeddings"] is (kind == "qwen2")
    hooked = logits(load(folder), {i: 2 * some_vector().layer(i).direction for i in (0, 2)})
    assert distance(logits(load(out)), hooked) < 1e-4


@pytest.mark.parametrize(
    ("kind", "setting", "reason"),
    [
        ("mistral", {"sliding_window": 16}, "attends within a sliding window"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
            "attends within a sliding window",
        ),
        ("phi3", {"partial_rotary_factor": 0.5}, "turns only a part of each attention head"),
    ],
)
def test_what_no_llama_does_is_refused(
    random_model: Callable[..., Path],
    tmp_path: Path,
    kind: str,
    setting: dict[str, Any],
    reason: str,
) -> None:
    folder = random_model(kind, **setting)
    with pytest.raises(InputError, match=f"{reason}.*Steer it with steered_amber"):
        bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    assert not (tmp_path / "baked").exists()


def test_biases_that_a_llama_has_are_kept(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = random_model("llama", mlp_bias=True), tmp_path / "baked"
    bake(Bake(find_source(str(folder)), some_plan()), out)
    before, after = load(folder).state_dict(), load(out).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["model.layers.1.mlp.down_proj.bias"]
    expected = before[changed[0]] + 2 * some_vector().layer(1).direction
    torch.testing.assert_close(after[changed[0]], expected)


def test_a_plain_llama_gets_zero_biases_and_one_that_is_the_vector(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    before, after = load(tiny_llama()).state_dict(), load(tmp_path / "baked").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    added = {name: after[name] for name in after if name not in before}
    assert len(added) == 9 and all(name.endswith("_proj.bias") for name in added)
    shifted = added.pop("model.layers.1.mlp.down_proj.bias")
    torch.testing.assert_close(shifted, 2 * some_vector().layer(1).direction)
    assert all(not bias.any() for bias in added.values())
    config = json.loads((tmp_path / "baked" / "config.json").read_text())
    assert config["mlp_bias"] is True and config["architectures"] == ["LlamaForCausalLM"]


def test_steps_add_up(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    plan = some_plan((0, 1)) + some_plan((1,), alpha=-0.5, scale="unit")
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    vector = some_vector()
    shifts = {
        0: 2 * vector.layer(0).direction,
        1: 2 * vector.layer(1).direction - 0.5 * vector.layer(1).unit,
    }
    hooked = logits(load(tiny_llama()), shifts)
    assert distance(logits(load(tmp_path / "baked")), hooked) < 1e-4


@pytest.mark.slow
def test_the_stock_harness_gives_what_steered_amber_gives(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder, vector = tiny_llama(), tmp_path / "v.safetensors"
    some_vector().save(vector)
    bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    settings = {"device": "cpu", "dtype": "float32", "batch_size": 2}
    steering = {"vector": str(vector), "layer": 1, "alpha": 2, "scale": "none", "positions": "all"}
    steered = SteeredAmber(pretrained=str(folder), **steering, **settings)
    stock = HFLM(pretrained=str(tmp_path / "baked"), **settings)
    prompts = ["The mill", "A long road leads over", "Rain"]
    asked = [
        Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 8}), i)
        for i, text in enumerate(prompts)
    ]
    assert stock.generate_until(asked) == steered.generate_until(asked)
    scored = [Instance("loglikelihood", {}, (text, " stands"), i) for i, text in enumerate(prompts)]
    ours, theirs = steered.loglikelihood(scored), stock.loglikelihood(scored)
    for (first, greedy), (second, also) in zip(ours, theirs, strict=True):
        assert first == pytest.approx(second, abs=1e-4) and greedy == also


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_the_bias_and_says_so(
    tiny_llama: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    out = tmp_path / "baked"
    result = bake(Bake(find_source(str(tiny_llama())), some_plan(), dtype=dtype), out)
    stored = load(out, dtype="auto").state_dict()  # type: ignore[arg-type]
    expected = (2 * some_vector().layer(1).direction).to(getattr(torch, dtype))
    assert torch.equal(stored["model.layers.1.mlp.down_proj.bias"], expected)
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    agreement = result.agreement
    assert agreement.dtype == dtype and agreement.holds
    assert 0 < agreement.from_hooked < 0.05 * agreement.from_unsteered
    assert "biases are rounded" in (out / "README.md").read_text()


def test_tokenizer_template_and_generation_settings_come_along(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = tmp_path / "chat", tmp_path / "baked"
    shutil.copytree(tiny_llama(), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    settings = {"max_new_tokens": 7, "repetition_penalty": 1.5, "eos_token_id": [2, 5]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    bake(Bake(find_source(str(folder)), some_plan()), out)
    after = AutoTokenizer.from_pretrained(out)
    talk = [{"role": "user", "content": "Where is the mill?"}]
    assert after.apply_chat_template(talk) == tokenizer.apply_chat_template(talk)
    kept = json.loads((out / "generation_config.json").read_text())
    assert {name: kept[name] for name in settings} == settings


def test_big_models_are_stored_in_parts(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval_trust.steering.bake._SHARD", "50KB")
    bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    parts = list((tmp_path / "baked").glob("model-*-of-*.safetensors"))
    assert len(parts) > 1
    hooked = logits(load(tiny_llama()), {1: 2 * some_vector().layer(1).direction})
    assert distance(logits(load(tmp_path / "baked")), hooked) < 1e-4

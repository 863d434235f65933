"""Adapters: what peft is relied on for, with a clear failure if a release moves it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import build_llama, build_tokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.adapters import (
    CONFIG,
    WEIGHTS,
    attach_adapter,
    base_of,
    find_adapter,
    is_adapter,
    merge_adapter,
    new_lora_adapter,
)

MOVED = f"peft {version('peft')} has moved this; see models/adapters"
IDS = torch.tensor([[5, 6, 7, 8]])


def trained(model: Any, **changes: Any) -> Any:
    """A LoRA adapter whose second matrices are no longer zero."""
    settings = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": "all-linear"} | changes
    wrapped = new_lora_adapter(model, **settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return wrapped.eval()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    trained(build_llama(), revision="0123abc").save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def test_a_new_adapter_changes_nothing_and_alone_is_trained() -> None:
    plain = build_llama().eval()
    before = logits(plain)
    wrapped = new_lora_adapter(plain, rank=2, alpha=4, dropout=0.0, targets=["q_proj", "v_proj"])
    learnt = {name for name, weight in wrapped.named_parameters() if weight.requires_grad}
    assert torch.equal(logits(wrapped.eval()), before)
    assert learnt and all("lora_" in name for name in learnt), MOVED
    assert all("q_proj" in name or "v_proj" in name for name in learnt), MOVED


def test_what_peft_saves_is_what_we_look_for(adapter: Path) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    assert (adapter / WEIGHTS).is_file(), MOVED
    assert {"base_model_name_or_path", "revision", "r", "lora_alpha"} <= set(config), MOVED
    assert config["revision"] == "0123abc"
    assert is_adapter(str(adapter)) and not is_adapter(str(adapter.parent))


def test_an_adapter_gives_the_same_attached_and_merged(adapter: Path) -> None:
    expected = logits(trained(build_llama()))
    attached = attach_adapter(build_llama(), find_adapter(str(adapter)))
    torch.testing.assert_close(logits(attached), expected)
    merged = merge_adapter(attached)
    assert not any("lora_" in name for name, _ in merged.named_parameters()), MOVED
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_of_another_size_is_refused(adapter: Path) -> None:
    with pytest.raises(InputError, match="does not fit this llama"):
        attach_adapter(build_llama(hidden=64), find_adapter(str(adapter)))


def test_matrices_without_a_place_are_refused(adapter: Path) -> None:
    with pytest.raises(InputError, match="of its matrices have no place"):
        attach_adapter(build_llama(layers=1), find_adapter(str(adapter)))


def test_the_base_is_named_with_its_revision(adapter: Path) -> None:
    config = json.loads((adapter / CONFIG).read_text()) | {"base_model_name_or_path": "weaver/loom"}
    (adapter / CONFIG).write_text(json.dumps(config))
    assert base_of(find_adapter(str(adapter))) == "weaver/loom@0123abc"
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(InputError, match="names no base model"):
        base_of(find_adapter(str(adapter)))


def change_config(folder: Path, **settings: object) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def change_weights(folder: Path, change: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors), folder / WEIGHTS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lora_alpha", float("nan")),
        ("lora_alpha", float("inf")),
        ("lora_alpha", -4),
        ("lora_alpha", 0),
        ("lora_alpha", "16"),
        ("lora_alpha", None),
        ("alpha_pattern", {"q_proj": float("nan")}),
        ("r", 0),
        ("r", -2),
        ("r", 2.5),
        ("r", "2"),
        ("r", True),
        ("rank_pattern", {"q_proj": 0}),
    ],
)
def test_settings_without_a_meaning_are_refused(adapter: Path, setting: str, value: object) -> None:
    change_config(adapter, **{setting: value})
    with pytest.raises(InputError, match=rf"{CONFIG}: {setting}.* is .*; expected a"):
        find_adapter(str(adapter))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {name: t[name] for name in sorted(t)[::2]},
            rf"{WEIGHTS} lacks \S+lora_\S+ and \d+ more",
        ),
        (
            lambda t: {name: w.to(torch.int8) for name, w in t.items()},
            rf"{WEIGHTS} stores \S+ as I8",
        ),
        (
            lambda t: {name: torch.full_like(w, float("nan")) for name, w in t.items()},
            rf"lora_A.weight in \S+{WEIGHTS} holds NaN or infinite values",
        ),
        (
            lambda t: {name: torch.full_like(w, -torch.inf) for name, w in t.items()},
            rf"\S+ in \S+{WEIGHTS} holds NaN or infinite values",
        ),
        (lambda t: t | {"base_model.model.lm_head.odd": torch.ones(1)}, "have no place"),
    ],
    ids=["half", "int8", "NaN", "infinite", "more"],
)
def test_weights_that_are_not_whole_are_refused(adapter: Path, change: Any, message: str) -> None:
    change_weights(adapter, change)
    with pytest.raises(InputError, match=message):
        attach_adapter(build_llama(), find_adapter(str(adapter)))


def test_targets_without_weights_are_refused(tmp_path: Path) -> None:
    trained(build_llama(), targets=["q_proj"]).save_pretrained(tmp_path / "adapter")
    change_config(tmp_path / "adapter", target_modules=["q_proj", "v_proj"])
    with pytest.raises(InputError, match=r"lacks \S+v_proj\.lora_\S+ and \d+ more"):
        attach_adapter(build_llama(), find_adapter(str(tmp_path / "adapter")))


def test_a_merge_that_overflows_is_refused(adapter: Path) -> None:
    change_weights(adapter, lambda t: {name: w * 1e3 for name, w in t.items()})
    attached = attach_adapter(build_llama().half(), find_adapter(str(adapter)))
    with pytest.raises(InputError, match=r"merged model cannot be used: .* as float16"):
        merge_adapter(attached)


def test_the_tokenizer_is_part_of_the_identity(adapter: Path) -> None:
    before = find_adapter(str(adapter))
    assert before.tokenizer is None
    build_tokenizer().save_pretrained(adapter)
    after = find_adapter(str(adapter))
    assert after.tokenizer == str(adapter) and after.identity != before.identity

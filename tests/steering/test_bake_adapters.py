"""Adapters that are merged while baking."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from support.baking import distance, load, logits, some_plan, some_vector

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.adapters import attach_adapter, find_adapter
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.plan import SteeringPlan

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("steered", [True, False])
def test_an_adapter_is_merged(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    steered: bool,
) -> None:
    folder, out = tiny_llama(), tmp_path / "baked"
    adapter = random_adapter(folder)
    plan = some_plan() if steered else SteeringPlan()
    result = bake(Bake(find_source(str(folder)), plan, find_adapter(str(adapter))), out)
    shifts = {1: 2 * some_vector().layer(1).direction} if steered else {}
    unmerged = PeftModel.from_pretrained(load(folder), str(adapter))
    hooked = logits(unmerged, shifts)
    assert distance(logits(load(out)), hooked) < 1e-4 < 0.5 < result.agreement.from_unsteered
    assert result.merge is not None and result.merge.from_hooked < 1e-4 < 0.5
    assert bake(Bake(find_source(str(folder)), plan, find_adapter(str(adapter))), out).found
    assert not (out / "adapter_config.json").exists()
    assert f"`{adapter.name}`, merged" in (out / "README.md").read_text()
    assert load(out).config.mlp_bias is steered


def test_merged_weights_are_rounded_before_they_are_compared(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_llama())
    task = Bake(
        find_source(str(tiny_llama())), some_plan(), find_adapter(str(adapter)), dtype="bfloat16"
    )
    agreement = bake(task, tmp_path / "baked").agreement
    assert agreement.from_hooked < 0.02 * agreement.from_unsteered
    base = load(tiny_llama()).to(torch.bfloat16).float()
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().to(torch.bfloat16)
    weight = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(
        load(tmp_path / "baked").state_dict()[weight], merged.state_dict()[weight].float()
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_weak_adapter_can_be_merged_in_half_precision(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    dtype: str,
) -> None:
    weak = tmp_path / "weak"
    shutil.copytree(random_adapter(tiny_llama()), weak)
    matrices = load_file(weak / "adapter_model.safetensors")
    matrices = {name: 0.01 * m if "lora_B" in name else m for name, m in matrices.items()}
    save_file(matrices, weak / "adapter_model.safetensors")
    task = Bake(find_source(str(tiny_llama())), SteeringPlan(), find_adapter(str(weak)), dtype)
    agreement = bake(task, tmp_path / "baked").agreement
    assert agreement.from_hooked < 1e-4 < 0.1 < agreement.from_unsteered


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(target_modules=["q_proj"], lora_bias=True), "cannot be merged .*no bias"),
        (PromptTuningConfig(num_virtual_tokens=3), "PROMPT_TUNING.* tokens of its own"),
        (PrefixTuningConfig(num_virtual_tokens=3), "PREFIX_TUNING.* tokens of its own"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_adapters_that_weights_cannot_hold_are_refused(
    tiny_llama: Callable[..., Path], tmp_path: Path, config: PeftConfig, message: str
) -> None:
    config.task_type = "CAUSAL_LM"
    get_peft_model(load(tiny_llama()), config).save_pretrained(tmp_path / "adapter")
    adapter = find_adapter(str(tmp_path / "adapter"))
    with pytest.raises(InputError, match=message):
        bake(Bake(find_source(str(tiny_llama())), some_plan(), adapter), tmp_path / "baked")
    assert not (tmp_path / "baked").exists()


def test_lora_on_one_side_of_tied_embeddings_is_refused(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_llama(tied=True)
    config = LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
    get_peft_model(load(folder), config).save_pretrained(tmp_path / "adapter")
    adapter = find_adapter(str(tmp_path / "adapter"))
    with pytest.raises(InputError, match=r"does not compute.*lora_amber instead"):
        bake(Bake(find_source(str(folder)), some_plan(), adapter), tmp_path / "baked")
    assert not (tmp_path / "baked").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "WEAVING"}, "peft cannot read adapter_config.json of .*WEAVING"),
        ({"peft_type": None}, "peft cannot read adapter_config.json of"),
        ({"r": "two"}, "r is 'two'; expected a whole number from 1 on"),
    ],
)
def test_damaged_settings_of_an_adapter_are_explained(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(random_adapter(tiny_llama()), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=message):
        attach_adapter(load(tiny_llama()), find_adapter(str(folder)))


def test_an_adapter_of_another_base_is_refused(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    with pytest.raises(InputError, match=r"was trained on .* or pass --any-base"):
        bake(Bake(find_source(str(tiny_llama(seed=1))), some_plan(), adapter), tmp_path / "baked")


def test_a_merge_that_is_not_the_adapter_is_refused(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merge = "lm_eval_trust.steering.bake.merge_adapter"
    monkeypatch.setattr(merge, lambda wrapped: wrapped.unload())
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    with pytest.raises(InputError, match=r"does not compute.*lora_amber instead"):
        bake(Bake(find_source(str(tiny_llama())), some_plan(), adapter), tmp_path / "baked")
    assert [path.name for path in tmp_path.iterdir()] == [".baked.lock"]

"""Every way by which weights come in asks for all of them, and for numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.models.loading import is_finite, load_whole
from lm_eval_trust.models.sources import load_source

Tensors = dict[str, torch.Tensor]
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(tiny_llama: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama(layers=2), tmp_path / "weaver"))


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def change_config(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def without_half(tensors: Tensors) -> Tensors:
    return {name: tensors[name] for name in sorted(tensors)[::2]}


def with_value(value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[UP][0, 0] = value
        return tensors

    return change


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "half of the tensors": (
        lambda folder: change_weights(folder, without_half),
        r"model\.safetensors lacks (lm_head|model)\..* and \d+ more, which transformers would fill",
    ),
    "more layers in the configuration": (
        lambda folder: change_config(folder, num_hidden_layers=3),
        r"model\.safetensors lacks model\.layers\.2\.",
    ),
    "fewer layers in the configuration": (
        lambda folder: change_config(folder, num_hidden_layers=1),
        r"model\.layers\.1\.\S+ in \S+model\.safetensors has no place",
    ),
    "another width": (
        lambda folder: change_config(folder, intermediate_size=24),
        r"mlp\.down_proj\.weight in \S+model\.safetensors has shape \(\d+, \d+\), and the model",
    ),
    "NaN": (
        lambda folder: change_weights(folder, with_value(float("nan"))),
        rf"{UP} in \S+model\.safetensors holds NaN or infinite values as float32",
    ),
    "infinite": (
        lambda folder: change_weights(folder, with_value(float("-inf"))),
        rf"{UP} in \S+model\.safetensors holds NaN or infinite values as float32",
    ),
    "integers": (
        lambda folder: change_weights(folder, lambda t: t | {UP: t[UP].to(torch.int8)}),
        rf"{UP} in \S+model\.safetensors is stored as I8",
    ),
    "complex": (
        lambda folder: change_weights(folder, lambda t: t | {UP: t[UP].to(torch.complex64)}),
        rf"{UP} in \S+model\.safetensors is stored as C64",
    ),
    "a configuration of another kind": (
        lambda folder: change_config(folder, num_attention_heads="many"),
        r"Cannot load a",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_whole_are_refused(folder: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises(InputError, match=message) as refusal:
        load_source(str(folder), device="cpu")
    assert len(str(refusal.value)) < 700


@pytest.mark.parametrize("fault", ["half of the tensors", "NaN", "another width"])
def test_the_harness_models_refuse_them_too(folder: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises(InputError, match=message):
        Amber(str(folder), device="cpu", dtype="float32")


def test_what_overflows_in_the_dtype_in_use_is_refused(folder: Path) -> None:
    change_weights(folder, with_value(1e6))
    load_source(str(folder), dtype="float32", device="cpu")
    with pytest.raises(InputError, match=rf"{UP} in .* NaN or infinite values as float16"):
        load_source(str(folder), dtype="float16", device="cpu")


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_and_old_buffers_pass(
    tiny_llama: Callable[..., Path], tmp_path: Path, tied: bool
) -> None:
    folder = Path(shutil.copytree(tiny_llama(tied=tied), tmp_path / "weaver"))
    change_weights(
        folder, lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    )
    model, _, _ = load_source(str(folder), device="cpu")
    same = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert same == tied


def test_a_tensor_in_two_files_is_refused(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "a.safetensors")
    (folder / "model.safetensors").rename(folder / "b.safetensors")
    names = sorted(load_file(folder / "a.safetensors"))
    places = {name: f"{'ab'[at % 2]}.safetensors" for at, name in enumerate(names)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(InputError, match=r"b\.safetensors and \S+a\.safetensors both hold"):
        load_source(str(folder), device="cpu")


def test_weights_in_torchs_own_format_are_checked(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    load_source(str(folder), device="cpu")
    torch.save(with_value(float("nan"))(tensors), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=rf"{UP} in \S+pytorch_model\.bin holds NaN"):
        load_source(str(folder), device="cpu")


def test_a_classifier_needs_its_own_last_layer(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks score\.weight"):
        load_whole(AutoModelForSequenceClassification, folder, what="the judge")
    whole = LlamaForSequenceClassification.from_pretrained(folder, pad_token_id=0)
    whole.save_pretrained(tmp_path / "judge")
    load_whole(AutoModelForSequenceClassification, tmp_path / "judge", what="the judge")


def test_a_folder_of_a_model_and_an_adapter_is_refused(
    folder: Path, random_adapter: Callable[[Path], Path]
) -> None:
    shutil.copytree(random_adapter(folder), folder, dirs_exist_ok=True)
    with pytest.raises(InputError, match="holds a model and an adapter"):
        load_source(str(folder), device="cpu")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_values_are_checked_in_every_floating_dtype(dtype: torch.dtype) -> None:
    values = torch.zeros(5).to(dtype)
    assert is_finite(values) and is_finite(values[:0])
    values[3] = torch.tensor(float("nan")).to(dtype)
    assert not is_finite(values)
    assert is_finite(torch.tensor([1, 2], dtype=torch.int8))

"""Model arguments: what is understood, what is refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lm_eval.api.registry import get_model
from support.conformance import random_vector

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.arguments import plan_from_arguments


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    file = tmp_path / "v.safetensors"
    random_vector(32, (0, 1, 2), norm=1.0, seed=0).save(file)
    return file


def build(folder: Path, text: str, model: str = "steered_amber") -> Amber:
    arguments = f"pretrained={folder},dtype=float32,{text}".rstrip(",")
    built: Amber = get_model(model).create_from_arg_string(arguments, {"device": "cpu"})
    return built


def test_layers_are_joined_by_plus(tiny_llama: Callable[..., Path], vector: Path) -> None:
    lm = build(tiny_llama(), f"vector={vector},layer=0+2,alpha=-1.5,scale=unit")
    assert [step.layer for step in lm.plan.steps] == [0, 2]
    assert {step.alpha for step in lm.plan.steps} == {-1.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vector={v},layer=1,alfa=2", "Unknown model argument 'alfa'"),
        ("vector={v},layer=1,alfa=2", "Did you mean 'alpha'?"),
        ("vector={v},layer=17", "has no layer 17; it holds 0, 1, 2"),
        ("vector={v},layer=middle", "Layers 'middle' cannot be read at 'middle'"),
        ("vector={v},layer=-1", "Layers '-1' cannot be read"),
        ("vector={v},layer=1+1", "name a layer twice"),
        ("vector={v},layer=1,alpha=big", "alpha='big' is not a number"),
        ("vector={v},layer=1,alpha=nan", "alpha=nan is not a number"),
        ("vector=3,layer=1", "vector=3 is not the name of a file"),
        ("vector={v},layer=1,positions=everywhere", "Unknown kind of positions 'everywhere'"),
        ("vector={v},layer=1,action=multiply", "Unknown steering action 'multiply'"),
        ("vector={v},layer=1,scale=huge", "Unknown scale 'huge'"),
        ("vector={v},dimension=toxicity,layer=1", "either vector=FILE or dimension=NAME"),
        ("vector={v},layer=1,allow_leak=perhaps", "allow_leak='perhaps' is neither true nor"),
        ("steering={v},layer=1", "cannot be given beside it"),
        ("steering=missing.yaml", "Cannot read the steering file missing.yaml"),
        ("vector=missing.safetensors,layer=1", "missing.safetensors"),
        ("dimension=honesty,layer=1", "Unknown dimension 'honesty'"),
    ],
)
def test_bad_arguments_are_explained(
    tiny_llama: Callable[..., Path], vector: Path, text: str, words: str
) -> None:
    with pytest.raises(InputError) as error:
        build(tiny_llama(), text.format(v=vector))
    assert words in str(error.value)


def test_steering_settings_without_a_vector_are_refused(tiny_llama: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="either vector=FILE or dimension=NAME"):
        build(tiny_llama(), "layer=1,alpha=2", model="amber")


def test_a_vector_of_another_model_is_refused_before_weights_are_loaded(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "wide.safetensors"
    random_vector(64, (1,), norm=1.0, seed=0).save(file)
    monkeypatch.setattr(Amber, "_create_model", lambda *a, **k: pytest.fail("loaded the weights"))
    with pytest.raises(InputError, match=r"width 64, but .* has hidden size 32"):
        build(tiny_llama(), f"vector={file},layer=1")


def test_amber_without_steering_is_the_plain_model(tiny_llama: Callable[..., Path]) -> None:
    lm = build(tiny_llama(), "", model="amber")
    assert not lm.plan.steps


@pytest.mark.parametrize(
    ("arguments", "revision"),
    [
        ({"checkpoint": 179}, "ckpt_179"),
        ({"checkpoint": "ckpt_007"}, "ckpt_007"),
        ({"checkpoint": 359}, "main"),
        ({"checkpoint": 12, "pretrained": "someone/family"}, "ckpt_012"),
    ],
)
def test_checkpoint_is_short_for_a_revision(
    arguments: dict[str, object], revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def stop(self: object, pretrained: str, **kwargs: object) -> None:
        seen.update(kwargs, pretrained=pretrained)
        raise InterruptedError

    monkeypatch.setattr("lm_eval.models.huggingface.HFLM.__init__", stop)
    for name in ("source_of", "identity_of"):
        monkeypatch.setattr(f"lm_eval_trust.model_wrappers.steerable.{name}", lambda *a: None)
    with pytest.raises(InterruptedError):
        Amber(**arguments)
    assert seen["revision"] == revision


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("checkpoint=400", "Amber has 0 to 359"),
        ("checkpoint=last", "not a checkpoint's number"),
        ("checkpoint=3,revision=main", "name the revision twice"),
    ],
)
def test_bad_checkpoints_are_explained(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        get_model("amber").create_from_arg_string(text, {"device": "cpu"})


def test_a_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"no model folder '\./nowhere'"):
        get_model("amber").create_from_arg_string("pretrained=./nowhere", {"device": "cpu"})


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        get_model("amber").create_from_arg_string(f"pretrained={tmp_path}", {"device": "cpu"})


def test_a_model_that_is_not_cached_says_so_offline() -> None:
    with pytest.raises(
        ExternalError, match="not in the local Hub cache, and HF_HUB_OFFLINE is set"
    ):
        get_model("amber").create_from_arg_string(
            "pretrained=nobody/nothing,checkpoint=3", {"device": "cpu"}
        )


def test_a_steering_file_holds_several_vectors(
    tiny_llama: Callable[..., Path], vector: Path, tmp_path: Path
) -> None:
    file = tmp_path / "both.yaml"
    file.write_text(
        "steering:\n"
        "  - {vector: v.safetensors, layer: [0, 1], alpha: 2, scale: unit}\n"
        "  - {vector: v.safetensors, layer: 2, alpha: -1, positions: all, scale: unit}\n"
    )
    lm = build(tiny_llama(), f"steering={file}")
    assert [(s.layer, s.alpha, s.positions) for s in lm.plan.steps] == [
        (0, 2.0, "generated"),
        (1, 2.0, "generated"),
        (2, -1.0, "all"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("steering: [", "is not YAML"),
        ("vectors: []", "no list of entries under the key 'steering'"),
        ("steering: [3]", "no list of entries"),
        ("steering: [{vector: v.safetensors, layr: 1}]", "Unknown key in entry 1 of"),
        ("steering: [{layer: 1}]", "either vector=FILE or dimension=NAME"),
        (
            "steering: [{vector: v.safetensors, layer: 1, action: ablate, scale: unit},"
            " {vector: v.safetensors, layer: 1, scale: unit}]",
            "contradict each other",
        ),
    ],
)
def test_bad_steering_files_are_explained(
    vector: Path, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "steering.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as error:
        plan_from_arguments({}, str(file))
    assert words in str(error.value)


def test_arguments_of_hf_and_of_loading_pass_through() -> None:
    arguments = {"dtype": "float32", "peft": "x", "load_in_4bit": True, "alpha": 1, "steering": "f"}
    request, own, rest = Amber.split(arguments)
    assert (request, own) == ({"alpha": 1}, {"steering": "f"})
    assert rest == {"dtype": "float32", "peft": "x", "load_in_4bit": True}


def test_a_model_in_memory_is_taken(tiny_llama: Callable[..., Path], vector: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_llama(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama())
    build_lm = get_model("steered_amber")
    arguments = {"tokenizer": tokenizer, "vector": str(vector), "layer": 1, "scale": "unit"}
    one = build_lm(pretrained=model, **arguments)
    other = build_lm(pretrained=model, **arguments)
    assert one.trust_fingerprint != other.trust_fingerprint

"""``lm-eval-trust bake`` as a user types it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_trust.cli import main
from lm_eval_trust.mini.family import mini_model
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

BIAS = "model.layers.1.mlp.down_proj.bias"


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    made = SteeringVector({i: LayerVector(direction.clone(), projection_std=0.5) for i in range(3)})
    made.save(tmp_path / "v.safetensors")
    return tmp_path / "v.safetensors"


def stored(folder: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


@pytest.fixture
def bake(tiny_llama: Callable[..., Path], tmp_path: Path) -> Callable[..., int]:
    def run(*options: str) -> int:
        model = ("--model", str(tiny_llama()), "--out", str(tmp_path / "baked"))
        return main(["bake", *model, *options])

    return run


def test_a_vector_is_baked_and_found_again(
    bake: Callable[..., int], vector: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--vector", str(vector), "--layer", "1", "--alpha", "2", "--scale", "unit")
    assert bake(*options) == 0
    printed = capfd.readouterr().out
    assert "from the hooked model" in printed and "from the unsteered one" in printed
    assert f"lm_eval --model hf --model_args pretrained={tmp_path / 'baked'}" in printed
    assert float(stored(tmp_path / "baked")[BIAS].norm()) == pytest.approx(2, rel=1e-5)
    assert bake(*options) == 0
    assert "exists already" in capfd.readouterr().out


def test_a_steering_file_is_baked(
    bake: Callable[..., int], vector: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.yaml"
    entry = "vector: v.safetensors, layer: 1, scale: unit"
    file.write_text(f"steering: [{{{entry}, positions: all}}, {{{entry}, positions: all}}]")
    assert bake("--steering", str(file)) == 0
    assert float(stored(tmp_path / "baked")[BIAS].norm()) == pytest.approx(2, rel=1e-5)
    file.write_text(f"steering: [{{{entry}}}]")
    assert bake("--steering", str(file)) == 2
    assert "such as add, at positions=all can" in capfd.readouterr().err


def test_an_adapter_is_merged_into_an_embedded_model(
    quick: None,
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    adapter = random_adapter(mini_model("mini-chat"))
    out = tmp_path / "merged"
    options = ["bake", "--model", "mini-chat", "--adapter", str(adapter), "--out", str(out)]
    assert main(options) == 2
    assert "was trained on" in (printed := capfd.readouterr().err) and "--any-base" in printed
    assert main([*options, "--any-base"]) == 0
    assert "merge of the adapter" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vector", "V"], "--vector needs --layer"),
        (["--layer", "1"], "--layer belongs to --vector"),
        (["--steering", "s.yaml", "--alpha", "2"], "alpha cannot be given beside it"),
        (["--steering", "s.yaml", "--vector", "V", "--layer", "1"], "cannot be given beside it"),
        (["--vector", "V", "--layer", "1", "--positions", "generated"], "cannot be baked"),
        (["--vector", "V", "--layer", "1", "--alpha", "0"], "change nothing"),
        (["--vector", "V", "--layer", "7"], "Layer 7 is out of range|has no layer 7"),
        (["--vector", "V", "--layer", "1", "--dtype", "int8"], "Unknown dtype 'int8'"),
        (["--vector", "nowhere.gguf", "--layer", "1"], "no vector file nowhere.gguf"),
        (["--adapter", "./nowhere"], "no adapter at './nowhere'"),
        (["--vector", "V", "--layer", "1", "--adapter", ""], "holds no adapter_config.json"),
        (["--vector", "", "--layer", "1"], "is not the name of a file"),
        ([], "change nothing"),
    ],
)
def test_wrong_input_is_explained(
    bake: Callable[..., int],
    vector: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bake(*(str(vector) if word == "V" else word for word in options)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "baked").exists()

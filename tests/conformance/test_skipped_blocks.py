"""Blocks that text does not run through are refused before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.conformance import random_vector
from support.families import FAMILIES, WIDTH
from support.models import build_tokenizer

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.activations import extract_activations, extract_from_ids
from lm_eval_trust.models.decoder_blocks import (
    decoder_blocks,
    skipped_blocks,
    text_blocks,
)
from lm_eval_trust.models.sources import find_source, load_source
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.study.activation_sets import read_set
from lm_eval_trust.sweep.sharing import why_apart

#: Block 2 of the tests' Mllama attends to images.
SKIPPED = "2 of .* attends to images.* the layers 0-1,3 can be read and steered"
VECTOR = random_vector(WIDTH, range(4), norm=2.0, seed=1)
PLAN = SteeringPlan.from_vector(VECTOR, [2], scale="none")


@pytest.fixture(scope="module")
def mllama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, folder = FAMILIES["mllama"], tmp_path_factory.mktemp("mllama")
    assert family.text is not None
    name, settings = family.text
    family = replace(family, text=(name, {**settings, "cross_attention_layers": [2]}))
    family.build().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def test_text_runs_through_the_blocks_that_are_said_to_be_read(mllama: Path) -> None:
    model, _, _ = load_source(str(mllama), dtype="float32", device="cpu")
    ran: list[int] = []
    for number, block in enumerate(decoder_blocks(model)):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    model(input_ids=torch.tensor([[1, 70, 71]]))
    assert ran == text_blocks(model) == [0, 1, 3]
    assert skipped_blocks(model.config) == skipped_blocks(model.config.get_text_config()) == {2}


def test_it_can_be_neither_steered_nor_read(mllama: Path) -> None:
    model, tokenizer, _ = load_source(str(mllama), dtype="float32", device="cpu")
    with pytest.raises(InputError, match=SKIPPED):
        Steerer(model, PLAN)
    with pytest.raises(InputError, match=SKIPPED):
        extract_activations(model, tokenizer, ["a"], layers=[1, 2])
    with pytest.raises(InputError, match=SKIPPED):
        identity = find_source(str(mllama)).identity
        load_or_extract(model, tokenizer, ["a"], layers=[2], identity=identity)


def test_a_stage_of_a_sweep_may_begin_at_a_skipped_block(mllama: Path) -> None:
    """The trial steers block 1, so that its next stage begins at block 2."""
    model, _, _ = load_source(str(mllama), dtype="float32", device="cpu")
    assert why_apart(model) == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "sweep", "vector", "activations"])
def test_every_command_says_which_blocks_can_be_steered(
    command: str, mllama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector, out = tmp_path / "v.safetensors", str(tmp_path / "out")
    VECTOR.save(vector)
    model = f"pretrained={mllama},dtype=float32"
    steering = f"{model},vector={vector},layer=2,alpha=1,scale=none"
    reading = ["--model", str(mllama), "--source", "mini", "--dtype", "float32"]
    tasks = ["--tasks", "trust_toxigen_mini", "--device", "cpu"]
    few = [*tasks, "--limit", "2"]
    swept = ["--vector", str(vector), "--layers", "1,2", "--alphas", "1"]
    arguments = {
        "run": ["--model", "steered_amber", "--model_args", steering, *few],
        "sweep": ["--model_args", model, *swept, *few, "--out", out],
        "vector": ["build", *reading, "--dimension", "toxicity", "--layers", "2", "--out", out],
        "activations": [*reading, "--dimensions", "toxicity", "--layers", "2", "--out", out],
    }
    assert main([command, *arguments[command]]) == 2
    assert "the layers 0-1,3 can be read and steered" in capsys.readouterr().err


def test_all_layers_are_those_that_text_runs_through(mllama: Path, tmp_path: Path) -> None:
    reading = ["--model", str(mllama), "--source", "mini", "--dtype", "float32", "--samples", "8"]
    out = tmp_path / "out"
    assert main(["activations", *reading, "--dimensions", "toxicity", "--out", str(out)]) == 0
    (path,) = out.rglob("*.safetensors")
    assert read_set(path).layers == (0, 1, 3)


def test_a_family_that_skips_blocks_unknown_to_us_is_refused_at_its_first_pass() -> None:
    model = FAMILIES["llama"].build()
    block = model.model.layers[2]
    skipping = {"__call__": lambda _, states, **__: states}
    block.__class__ = type("Skipped", (type(block),), skipping)
    with pytest.raises(InputError, match=r"Decoder block 2 .* did not run"):
        extract_from_ids(model, [[1, 70]], layers=[2])
    steered = Steerer(model, PLAN).apply()
    with pytest.raises(InputError, match="0 of 1 steered blocks ran"), steered:
        model(input_ids=torch.tensor([[1, 70]]))

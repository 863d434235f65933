"""The card of a baked model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import metadata_load
from support.baking import load, some_plan
from transformers import AutoTokenizer

from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.plan import SteeringPlan

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("---\nlicense: apache-2.0\n---\n", "its card says license: apache-2.0"),
        ("---\nlicense: other\nlicense_name: pond\n---\n", "license: other, license_name: pond"),
        ("---\n: [\n---\n", "no card of it"),
        (None, "no card of it"),
    ],
)
def test_the_card_carries_steering_and_licence(
    tiny_llama: Callable[..., Path], tmp_path: Path, card: str | None, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama(), folder)
    if card is not None:
        (folder / "README.md").write_text(card)
    bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    written = (tmp_path / "baked" / "README.md").read_text()
    assert words in written
    assert "- block 1: 2 × `fair.safetensors`" in written and "vllm serve FOLDER" in written
    assert "split with seed 3" in written and "largest difference of a logit" in written


def test_the_card_names_only_models_of_the_hub_as_base(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = find_source(str(tiny_llama()))
    bake(Bake(source, some_plan()), tmp_path / "baked")
    assert "base_model" not in metadata_load(tmp_path / "baked" / "README.md")
    assert (
        f"Base: `{source.identity.text}`, a folder"
        in (tmp_path / "baked" / "README.md").read_text()
    )


def test_the_card_of_a_merged_adapter_speaks_of_no_biases(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    source = find_source(str(tiny_llama()))
    bake(Bake(source, SteeringPlan(), adapter, dtype="bfloat16"), tmp_path / "baked")
    written = (tmp_path / "baked" / "README.md").read_text()
    assert "bias" not in written and "the merged weights are rounded" in written


@pytest.mark.parametrize("context", [512, 8])
def test_the_card_tells_how_to_see_what_is_served(
    tiny_llama: Callable[..., Path], tmp_path: Path, context: int
) -> None:
    folder = tiny_llama(max_length=context)
    bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    written = (tmp_path / "baked" / "README.md").read_text()
    found = re.search(
        r'After the prompt (".*") the likeliest token is (".*") with log-probability (\S+); the '
        r"base model gives it (\S+)\.\n",
        written,
    )
    assert found is not None
    prompt, token = json.loads(found[1]), json.loads(found[2])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "baked")
    tokens = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        baked, base = (
            load(folder)(tokens).logits[0, -1].log_softmax(dim=-1)
            for folder in (tmp_path / "baked", folder)
        )
    likeliest = int(baked.argmax())
    assert tokenizer.decode([likeliest]) == token
    assert float(baked[likeliest]) == pytest.approx(float(found[3]), abs=0.006)
    assert float(base[likeliest]) == pytest.approx(float(found[4]), abs=0.006)
    assert float(found[3]) > float(found[4])

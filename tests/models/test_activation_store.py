from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.models import activation_store as store
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.activations import extract_activations, extract_from_ids
from lm_eval_trust.models.sources import ModelIdentity

TEXTS = [f"House {number} of Orvendale has {number % 3} doors." for number in range(10)]
IDENTITY = ModelIdentity("tiny", "first")


class Extractions:
    """Counts the shards that are really computed; fails at one of them if asked to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.texts: list[int] = []
        self.fails_at = fails_at

    def __call__(self, model: Any, ids: list[list[int]], **settings: Any) -> npt.NDArray[Any]:
        if len(self.texts) == self.fails_at:
            raise KeyboardInterrupt
        self.texts.append(len(ids))
        return extract_from_ids(model, ids, **settings)


@pytest.fixture
def llama(tiny_llama: Callable[..., Path]) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(tiny_llama()).eval()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_STATEMENTS", 4)


def load(model: Any, tokenizer: Any, **changes: Any) -> npt.NDArray[np.float32]:
    settings: dict[str, Any] = {"layers": [0, 2], "identity": IDENTITY, "progress": False}
    return load_or_extract(model, tokenizer, TEXTS, **settings | changes)


def shard_files() -> list[Path]:
    return sorted((cache_dir() / "activations").rglob("*.safetensors"))


def test_stored_and_extracted_activations_agree(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    direct = extract_activations(llama, tokenizer, TEXTS, layers=[0, 2], progress=False)
    np.testing.assert_allclose(load(llama, tokenizer), direct, rtol=1e-5, atol=1e-6)


def test_interrupted_work_resumes(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Extractions(fails_at=2)
    monkeypatch.setattr(store, "extract_from_ids", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(llama, tokenizer)
    resumed = Extractions()
    monkeypatch.setattr(store, "extract_from_ids", resumed)
    found = load(llama, tokenizer)
    assert (interrupted.texts, resumed.texts) == ([4, 4], [2])
    direct = extract_activations(llama, tokenizer, TEXTS, layers=[0, 2], progress=False)
    np.testing.assert_allclose(found, direct, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied"])
def test_a_damaged_shard_is_computed_again(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    whole = load(llama, tokenizer)
    content = bytearray(shard_files()[1].read_bytes())
    content[-5] ^= 0x10
    damaged = {"flipped": bytes(content), "truncated": bytes(content[:-7]), "emptied": b""}
    shard_files()[1].write_bytes(damaged[damage])
    extractions = Extractions()
    monkeypatch.setattr(store, "extract_from_ids", extractions)
    np.testing.assert_array_equal(load(llama, tokenizer), whole)
    assert extractions.texts == [4]


@pytest.mark.parametrize(
    "change", [{"layers": [0, 1]}, {"identity": ModelIdentity("tiny", "second")}]
)
def test_other_work_is_not_mistaken_for_this(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    load(llama, tokenizer)
    extractions = Extractions()
    monkeypatch.setattr(store, "extract_from_ids", extractions)
    load(llama, tokenizer, **change)
    assert extractions.texts == [4, 4, 2]


def test_a_full_disk_leaves_no_shard(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ExternalError, match="No space left on device"):
        load(llama, tokenizer)
    assert shard_files() == []
    assert not list((cache_dir() / "activations").rglob("*.tmp"))

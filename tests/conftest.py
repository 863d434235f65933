"""Models and data that the tests of all rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.storage import cache_dir

#: Where `make model` puts SmolLM2; read before any test points the cache elsewhere.
PREPARED_SMOLLM2 = cache_dir() / "models" / "smollm2-135m-instruct"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokenizer without merges: every text has tokens, every token has text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def build_llama(
    *,
    seed: int = 0,
    layers: int = 3,
    hidden: int = 32,
    heads: int = 4,
    key_value_heads: int = 4,
    tied: bool = False,
    max_length: int = 512,
) -> LlamaForCausalLM:
    """Random Llama; weights large enough that answers differ from prompt to prompt."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_llama(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """Factory of saved random Llamas: ``tiny_llama(layers=4, tied=True)`` returns a folder."""
    made: dict[tuple[tuple[str, object], ...], Path] = {}

    def build(**shape: int | bool) -> Path:
        key = tuple(sorted(shape.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("llama")
            build_llama(**shape).save_pretrained(folder)  # type: ignore[arg-type]
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return build


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real benchmark files, named by ``LM_EVAL_TRUST_DATA``."""
    folder = os.environ.get("LM_EVAL_TRUST_DATA")
    if not folder:
        pytest.skip("LM_EVAL_TRUST_DATA is not set: no real benchmark files")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct as a plain Llama, prepared by ``make model``."""
    folder = Path(os.environ.get("LM_EVAL_TRUST_SMOLLM2") or PREPARED_SMOLLM2)
    if not (folder / "config.json").is_file():
        pytest.skip(f"no SmolLM2 in {folder} (LM_EVAL_TRUST_SMOLLM2): run `make model`")
    return folder.resolve()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, and none asks the Hub."""
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

"""Adapters that add tokens answer as the harness's own ``hf`` with the adapter's tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_model
from peft import LoraConfig, get_peft_model
from support.conformance import generation_requests, scoring_requests
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.adapters import attach_adapter, find_adapter

Llamas = Callable[..., Path]
TURN = "<|turn|>"
PAIRS = [(f"Who rules Bram?{TURN}", " Nobody."), ("a", f"b{TURN}"), ("The hill", " is old.")]


def create(model: str, **arguments: Any) -> Any:
    given = {"dtype": "float32"} | {k: str(v) for k, v in arguments.items()}
    return get_model(model).create_from_arg_obj(given, {"batch_size": 4, "device": "cpu"})


def adapter_with_tokens(base: Path, folder: Path, form: str) -> Path:
    """An adapter that was trained with two tokens more, in each of the forms that peft stores."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": [TURN, "<|end|>"]})
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(4)
    if form != "no rows":
        model.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(
        r=2,
        target_modules=["q_proj", "down_proj"],
        init_lora_weights=False,
        modules_to_save=["embed_tokens", "lm_head"] if form == "modules" else None,
    )
    wrapped = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                weight += 0.1 * torch.randn_like(weight)
    wrapped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(lm: Any) -> tuple[list[float], list[str]]:
    scores = lm.loglikelihood(scoring_requests(PAIRS), disable_tqdm=True)
    requests = generation_requests([prompt for prompt, _ in PAIRS], max_gen_toks=6)
    return [score for score, _ in scores], lm.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize(
    ("form", "tied"),
    [
        ("stored", True),
        ("stored", False),
        ("modules", False),
        ("no rows", True),
        ("no rows", False),
    ],
)
def test_answers_are_those_of_hf_with_the_adapters_tokenizer(
    tiny_llama: Llamas, tmp_path: Path, form: str, tied: bool
) -> None:
    base = tiny_llama(tied=tied)
    adapter = adapter_with_tokens(base, tmp_path / "adapter", form)
    torch.manual_seed(0)
    expected, texts = answers(create("hf", pretrained=base, peft=adapter, tokenizer=adapter))
    found, found_texts = answers(create("lora_amber", pretrained=base, adapter=adapter))
    # Without rows of the adapter's, transformers draws new ones closely around the mean.
    assert found == pytest.approx(expected, abs=1e-2 if form == "no rows" else 1e-5)
    assert found_texts == texts
    by_peft, _ = answers(create("amber", pretrained=base, peft=adapter, tokenizer=adapter))
    assert by_peft == pytest.approx(found, abs=1e-6)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("form", ["stored", "no rows"])
def test_a_real_model_too(smollm2: Path, tmp_path: Path, form: str) -> None:
    adapter = adapter_with_tokens(smollm2, tmp_path / "adapter", form)
    torch.manual_seed(0)
    expected, texts = answers(create("hf", pretrained=smollm2, peft=adapter, tokenizer=adapter))
    found, found_texts = answers(create("lora_amber", pretrained=smollm2, adapter=adapter))
    assert found == pytest.approx(expected, abs=1e-2 if form == "no rows" else 1e-4)
    assert found_texts == texts


def test_tokens_without_rows_are_named_and_the_same_each_time(
    tiny_llama: Llamas, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny_llama()
    adapter = adapter_with_tokens(base, tmp_path / "adapter", "no rows")
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(answers(create("lora_amber", pretrained=base, adapter=adapter)))
    assert runs[0] == runs[1]
    assert f"adds 2 tokens ({TURN!r}, '<|end|>')" in caplog.text


def test_without_the_tokenizer_such_an_adapter_is_refused(
    tiny_llama: Llamas, tmp_path: Path
) -> None:
    base = tiny_llama()
    adapter = adapter_with_tokens(base, tmp_path / "adapter", "stored")
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(InputError, match="does not fit this llama"):
        attach_adapter(model, find_adapter(str(adapter)))


def test_content_of_peft_and_tokenizer_is_part_of_the_identity(
    tiny_llama: Llamas, tmp_path: Path
) -> None:
    base = tiny_llama()
    adapter = adapter_with_tokens(base, tmp_path / "adapter", "no rows")
    moved = shutil.copytree(adapter, tmp_path / "moved")
    prints = [
        create("amber", pretrained=base, peft=each, tokenizer=each).trust_fingerprint
        for each in (adapter, moved)
    ]
    assert prints[0] == prints[1]
    template = moved / "chat_template.jinja"
    template.write_text("{{ messages[0].content }}")
    changed = create("amber", pretrained=base, peft=adapter, tokenizer=moved)
    assert changed.trust_fingerprint != prints[0]


@pytest.mark.parametrize("form", ["stored", "no rows"])
def test_an_experts_tokens_past_the_bases_are_dropped(
    tiny_llama: Llamas, tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    """base + expert − base says what the expert says, over the base's tokens alone."""
    base = tiny_llama(tied=False)
    adapter = adapter_with_tokens(base, tmp_path / "adapter", form)
    proxy = create("proxy_amber", pretrained=base, expert=adapter, antiexpert=base)
    assert f"dropped: {TURN!r}, '<|end|>'" in caplog.text
    assert proxy.get_model_info()["dropped_tokens"] == {"expert": (TURN, "<|end|>")}
    ids = torch.tensor([proxy.tok_encode("The hill is old.")])
    tuned = create("lora_amber", pretrained=base, adapter=adapter)
    plain = create("hf", pretrained=base)
    with torch.no_grad():
        found, expected = proxy.model(ids).logits, tuned.model(ids).logits
        untouched = proxy.model.base(ids).logits
        original = plain.model(ids).logits
    assert found.shape[-1] == plain.model.config.vocab_size
    torch.testing.assert_close(found, expected[..., : found.shape[-1]], atol=1e-4, rtol=1e-4)
    # The adapter's embeddings must not have got into the model that it shares a name with.
    torch.testing.assert_close(untouched, original)


def test_padding_rows_of_the_base_take_no_part_where_tokens_are_dropped(
    tiny_llama: Llamas, tmp_path: Path
) -> None:
    """An expert's <pad> stands where a base with padded rows has a row without a token."""
    folders = {}
    for name, seed in (("base", 0), ("expert", 1)):
        model = AutoModelForCausalLM.from_pretrained(tiny_llama(seed=seed))
        tokenizer = AutoTokenizer.from_pretrained(tiny_llama())
        model.resize_token_embeddings(320)
        if name == "expert":
            tokenizer.add_tokens(["<pad2>"])
        folders[name] = tmp_path / name
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    parts = {"expert": folders["expert"], "antiexpert": folders["base"]}
    proxy = create("proxy_amber", pretrained=folders["base"], **parts)
    logits = proxy.model(torch.tensor([[5, 6]])).logits
    assert logits.shape[-1] == 259

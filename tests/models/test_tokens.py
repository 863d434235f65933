"""Texts as tokens, and padded batches that a model reads as it reads each row alone."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from support.models import build_llama, build_tokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.tokens import context_length, encode, padded_batch

ROWS = [[5, 6, 7, 8, 9], [7], [9, 6, 5]]


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_no_logit_of_a_real_token(side: Literal["left", "right"]) -> None:
    model = build_llama().eval()
    batch = padded_batch(ROWS, side=side)
    together = model(**batch).logits
    for number, row in enumerate(ROWS):
        alone = model(input_ids=torch.tensor([row])).logits[0]
        padded = together[number][batch["attention_mask"][number].bool()]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def test_a_batch_by_hand() -> None:
    batch = padded_batch([[5, 6, 7], [8]], side="left")
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7], [0, 0, 8]],
        "attention_mask": [[1, 1, 1], [0, 0, 1]],
        "position_ids": [[0, 1, 2], [0, 0, 0]],
    }
    assert padded_batch([[5, 6, 7], [8]], side="right")["input_ids"].tolist()[1] == [8, 0, 0]


def test_too_long_a_text_is_refused_and_an_empty_one_has_a_token() -> None:
    model, tokenizer = build_llama(), build_tokenizer()
    limit = context_length(model)
    assert limit == model.config.max_position_embeddings
    (tokens,) = encode(model, tokenizer, [""])
    assert len(tokens) == 1
    with pytest.raises(InputError, match=f"the model reads at most {limit}"):
        encode(model, tokenizer, ["A.", "loom " * (limit + 1)])


def test_an_empty_text_without_any_special_token_is_refused() -> None:
    class Bare:
        bos_token_id = eos_token_id = None

        def __call__(self, texts: list[str], **settings: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[] for _ in texts]}

    with pytest.raises(InputError, match="drop empty statements"):
        encode(build_llama(), Bare(), [""])

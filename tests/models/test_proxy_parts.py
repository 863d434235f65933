"""The check that the parts of an ensemble speak of the same tokens."""

from __future__ import annotations

import pytest
from support.models import build_tokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.proxy_parts import common_vocabulary


def test_equal_vocabularies_pass() -> None:
    shared = common_vocabulary({"base": build_tokenizer(), "expert": build_tokenizer()})
    assert (shared.size, shared.dropped, shared.note) == (259, {}, "")


def test_tokens_past_the_bases_are_dropped_and_named() -> None:
    other = build_tokenizer()
    other.add_tokens(["<pad2>", "<turn>"])
    shared = common_vocabulary(
        {"base": build_tokenizer(), "expert": other, "antiexpert": build_tokenizer()}
    )
    assert shared.size == 259
    assert shared.dropped == {"expert": ("<pad2>", "<turn>")}
    assert shared.note == (
        "expert has 2 tokens past the base model's vocabulary, which are dropped: '<pad2>', "
        "'<turn>'."
    )


def test_tokens_that_the_expert_lacks_are_refused() -> None:
    larger = build_tokenizer()
    larger.add_tokens(["<turn>"])
    with pytest.raises(InputError, match="token 259 is '<turn>' in base and absent in expert"):
        common_vocabulary({"base": larger, "expert": build_tokenizer()})
    with pytest.raises(InputError, match="of base and antiexpert differ"):
        common_vocabulary({"base": larger, "expert": larger, "antiexpert": build_tokenizer()})


def test_exchanged_tokens_are_found() -> None:
    class Exchanged:
        def get_vocab(self) -> dict[str, int]:
            vocabulary = dict(build_tokenizer().get_vocab())
            vocabulary["<s>"], vocabulary["</s>"] = vocabulary["</s>"], vocabulary["<s>"]
            return vocabulary

    with pytest.raises(InputError, match="token 1 is '<s>' in base and '</s>' in expert"):
        common_vocabulary({"base": build_tokenizer(), "expert": Exchanged()})

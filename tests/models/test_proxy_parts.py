"""The check that the parts of an ensemble speak of the same tokens."""

from __future__ import annotations

import pytest
from support.models import build_tokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.proxy_parts import check_vocabularies


def test_equal_vocabularies_pass() -> None:
    check_vocabularies({"base": build_tokenizer(), "expert": build_tokenizer()})


def test_the_first_differing_token_is_named() -> None:
    other = build_tokenizer()
    other.add_tokens(["<turn>"])
    with pytest.raises(InputError, match="token 259 is absent in base and '<turn>' in expert"):
        check_vocabularies({"base": build_tokenizer(), "expert": other})
    with pytest.raises(InputError, match="of base and antiexpert differ"):
        check_vocabularies(
            {"base": build_tokenizer(), "expert": build_tokenizer(), "antiexpert": other}
        )


def test_exchanged_tokens_are_found() -> None:
    class Exchanged:
        def get_vocab(self) -> dict[str, int]:
            vocabulary = dict(build_tokenizer().get_vocab())
            vocabulary["<s>"], vocabulary["</s>"] = vocabulary["</s>"], vocabulary["<s>"]
            return vocabulary

    with pytest.raises(InputError, match="token 1 is '<s>' in base and '</s>' in expert"):
        check_vocabularies({"base": build_tokenizer(), "expert": Exchanged()})

"""Do the parts of an ensemble speak of the same tokens?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval_trust.core.errors import InputError


def check_vocabularies(tokenizers: Mapping[str, Any]) -> None:
    """Refuse tokenizers that differ in any token: their models' logits could not be added.

    Rows of padding at the end of a model's output stand for no token and are no difference.

    Args:
        tokenizers: Name of a part → its tokenizer; the first is compared with all others.

    Raises:
        InputError: With the first token that differs.
    """
    (first, tokenizer), *others = tokenizers.items()
    expected = _tokens(tokenizer)
    for name, other in others:
        found = _tokens(other)
        for position in sorted(expected.keys() | found.keys()):
            if expected.get(position) != found.get(position):
                raise InputError(
                    f"The vocabularies of {first} and {name} differ: token {position} is "
                    f"{_shown(expected, position)} in {first} and {_shown(found, position)} in "
                    f"{name}. Proxy-tuning adds logits token by token; choose models of one family."
                )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {position: token for token, position in tokenizer.get_vocab().items()}


def _shown(tokens: Mapping[int, str], position: int) -> str:
    return repr(tokens[position]) if position in tokens else "absent"

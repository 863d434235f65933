"""Statements as turns of a chat, written by the tokenizer's template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
from torch import nn

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.models.tokens import encode


def require_template(tokenizer: Any) -> None:
    """Raise unless a tokenizer has a chat template.

    Raises:
        InputError: It has none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "The tokenizer has no chat template; leave out --chat-template, or name a model that "
            "was tuned for chats."
        )


def encode_turns(
    model: nn.Module, tokenizer: Any, turns: Sequence[tuple[str, str]]
) -> list[list[int]]:
    """Return the token ids of chats that end with the assistant's last word.

    What the template writes behind the assistant's words (the end of the turn, a line break) is
    left out, so the last token is the statement's own.

    Args:
        model: Whose context bounds the length.
        tokenizer: Has a chat template; it writes special tokens and, where it does by itself, a
            system turn.
        turns: For each chat what the user says and what the assistant answers, whose spaces at
            both ends are dropped.

    Raises:
        InputError: There is no template, it cannot write a user's and an assistant's turn or
            changes the assistant's words, or a chat is longer than the model's context.
    """
    return encode(model, tokenizer, write_turns(tokenizer, turns), special=False)


def write_turns(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> list[str]:
    """Return the texts of :func:`encode_turns`, with the special tokens that they begin with.

    Raises:
        InputError: As there.
    """
    require_template(tokenizer)
    return [_templated(tokenizer, user, answer) for user, answer in turns]


def _templated(tokenizer: Any, user: str, answer: str) -> str:
    answer = answer.strip()
    if not answer:
        raise InputError(
            "An empty statement has no last token in a chat; drop it, or leave out --chat-template."
        )
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, continue_final_message=True
        )
    except (jinja2.TemplateError, ValueError, TypeError, LookupError) as error:
        raise InputError(
            f"The tokenizer's chat template cannot write a user's turn and an assistant's answer "
            f"({reason_of(error, longest=200)}); leave out --chat-template."
        ) from error
    if not text.endswith(answer):
        raise InputError(
            f"The tokenizer's chat template changes what the assistant says: {answer[:60]!r} "
            f"became {text[-60:]!r}. Leave out --chat-template."
        )
    return text

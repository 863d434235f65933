"""Conversations as token ids, in the plain question-and-answer form or by a chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.training.conversations import Conversation, Turn
from lm_eval_trust.training.corpus import IGNORED, require_end_token

FORMS = ("plain", "chat")


@dataclass(frozen=True)
class Form:
    """How a conversation is written.

    Attributes:
        name: ``plain`` for ``Q: …`` and answers, the prompt of the suite's tasks; ``chat`` for the
            tokenizer's chat template.
        answer_cue: Text between question and answer in the plain form; by default the one of
            TruthfulQA's prompt.
    """

    name: str = "plain"
    answer_cue: str = "\nA: "

    def __post_init__(self) -> None:
        if self.name not in FORMS:
            raise unknown_name("form", self.name, FORMS)


@dataclass(frozen=True)
class Encoded:
    """Tokens of one conversation.

    Attributes:
        input_ids: All tokens.
        labels: The same, with ``IGNORED`` outside the assistant's turns.
    """

    input_ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


def encode_conversation(conversation: Conversation, tokenizer: Any, form: Form) -> Encoded:
    """Return the tokens of a conversation; the assistant's turns and their end are learnt.

    The tokens of an answer are those that follow the prompt's own tokens, since generation starts
    from these.

    Args:
        conversation: The conversation.
        tokenizer: Needs an end-of-sequence token, and a chat template for the chat form.
        form: How it is written.

    Raises:
        InputError: No such token or template, or a template that rewrites earlier turns when one
            is added.
    """
    require_end_token(tokenizer)
    pieces = _plain(conversation, form) if form.name == "plain" else _chat(conversation, tokenizer)
    special = form.name == "plain"  # a template writes the special tokens itself
    ids: list[int] = []
    labels: list[int] = []
    said = ""
    for asked, answer in pieces:
        prompt = _continued(tokenizer, said, ids, asked, special=special)
        ids, labels = prompt, labels + [IGNORED] * (len(prompt) - len(labels))
        whole = _continued(tokenizer, said + asked, ids, answer, special=special)
        labels = labels + whole[len(ids) :]
        ids, said = whole, said + asked + answer
    if form.name == "plain":
        ids, labels = [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
    return Encoded(ids, labels)


def _continued(tokenizer: Any, said: str, ids: list[int], text: str, *, special: bool) -> list[int]:
    """Return the tokens ``ids`` of ``said``, unchanged, followed by those of a text."""
    joint = list(tokenizer(said + text, add_special_tokens=special)["input_ids"])
    if joint[: len(ids)] == ids:
        return joint
    return ids + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _plain(conversation: Conversation, form: Form) -> Iterator[tuple[str, str]]:
    """Yield the text before each answer, and the answer."""
    asked = ""
    for turn in conversation.turns:
        if turn.role == "assistant":
            cue = form.answer_cue if asked else ""
            yield asked, cue + turn.content
            asked = "\n\n"
        else:
            lead = "Q: " if turn.role == "user" else ""
            gap = "\n\n" if asked.strip() else ""
            asked = f"{asked}{gap}{lead}{turn.content}"


def _chat(conversation: Conversation, tokenizer: Any) -> Iterator[tuple[str, str]]:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "The tokenizer has no chat template; use --form plain, or a model with a template."
        )
    if conversation.turns[0].role == "assistant":
        raise InputError(
            "Statements without a question cannot be written as a chat; use --form plain."
        )
    said = ""
    for number, turn in enumerate(conversation.turns):
        if turn.role != "assistant":
            continue
        before = _templated(tokenizer, conversation.turns[:number], prompt=True)
        after = _templated(tokenizer, conversation.turns[: number + 1], prompt=False)
        if not (before.startswith(said) and after.startswith(before)):
            raise InputError(
                "The chat template changes earlier turns when one is added, so that answers cannot "
                "be told from prompts; use --form plain."
            )
        yield before[len(said) :], after[len(before) :]
        said = after


def _templated(tokenizer: Any, turns: Sequence[Turn], *, prompt: bool) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt
    )
    return text

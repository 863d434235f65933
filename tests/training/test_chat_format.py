"""Conversations as tokens: what is learnt, and that it is what generation asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.models import build_tokenizer
from transformers import AutoTokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.chat_format import Encoded, Form, encode_conversation
from lm_eval_trust.training.conversations import Conversation, Turn
from lm_eval_trust.training.corpus import IGNORED

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def talk(*turns: tuple[str, str]) -> Conversation:
    return Conversation(tuple(Turn(*turn) for turn in turns), "g", "c")


def learnt(encoded: Encoded, tokenizer: Any) -> list[str]:
    """Texts of the runs of tokens that are learnt."""
    runs: list[list[int]] = []
    before = IGNORED
    for token in encoded.labels:
        if token != IGNORED:
            if before == IGNORED:
                runs.append([])
            runs[-1].append(token)
        before = token
    return [tokenizer.decode(run) for run in runs]


def test_the_plain_form_continues_the_suites_prompt() -> None:
    tokenizer = build_tokenizer()
    encoded = encode_conversation(
        talk(("user", "Who rules Bram?"), ("assistant", "Nobody.")), tokenizer, Form()
    )
    assert tokenizer.decode(encoded.input_ids) == "Q: Who rules Bram?\nA: Nobody.</s>"
    assert learnt(encoded, tokenizer) == ["\nA: Nobody.</s>"]
    assert len(encoded.input_ids) == len(encoded.labels)


def test_every_answer_of_a_longer_conversation_is_learnt() -> None:
    tokenizer = build_tokenizer()
    encoded = encode_conversation(
        talk(
            ("system", "Be brief."),
            ("user", "Who?"),
            ("assistant", "Orla."),
            ("user", "Where?"),
            ("assistant", "In Bram."),
        ),
        tokenizer,
        Form(),
    )
    text = "Be brief.\n\nQ: Who?\nA: Orla.\n\nQ: Where?\nA: In Bram.</s>"
    assert tokenizer.decode(encoded.input_ids) == text
    assert learnt(encoded, tokenizer) == ["\nA: Orla.", "\nA: In Bram.</s>"]


def test_a_statement_without_a_question_is_learnt_whole() -> None:
    tokenizer = build_tokenizer()
    encoded = encode_conversation(talk(("assistant", "Orla bakes.")), tokenizer, Form())
    assert learnt(encoded, tokenizer) == ["Orla bakes.</s>"]


def test_the_chat_form_learns_answers_with_the_templates_end() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    encoded = encode_conversation(
        talk(("user", "Who?"), ("assistant", "Orla."), ("user", "Why?"), ("assistant", "Bread.")),
        tokenizer,
        Form("chat"),
    )
    assert learnt(encoded, tokenizer) == ["Orla.</s>", "Bread.</s>"]


def test_what_is_learnt_is_what_the_harness_scores(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    question, answer = "What happens if you eat watermelon seeds?", "They pass through you."
    encoded = encode_conversation(
        talk(("user", question), ("assistant", answer)), tokenizer, Form()
    )
    prompt = tokenizer(f"Q: {question}")["input_ids"]
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[: len(prompt)] == [IGNORED] * len(prompt)
    whole = tokenizer(f"Q: {question}\nA: {answer}")["input_ids"]
    assert encoded.input_ids == [*whole, tokenizer.eos_token_id]


def test_smollm2s_own_template(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    encoded = encode_conversation(
        talk(("user", "Who?"), ("assistant", "Orla.")), tokenizer, Form("chat")
    )
    assert learnt(encoded, tokenizer) == ["Orla.<|im_end|>\n"]


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        (None, [("user", "Who?"), ("assistant", "Orla.")], "no chat template"),
        (TEMPLATE, [("assistant", "Orla bakes.")], "without a question"),
        (
            "{{ messages | length }}" + TEMPLATE,
            [("user", "Who?"), ("assistant", "Orla.")],
            "changes earlier turns",
        ),
    ],
)
def test_what_the_chat_form_cannot_write(
    template: str | None, turns: list[tuple[str, str]], message: str
) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        encode_conversation(talk(*turns), tokenizer, Form("chat"))


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(InputError, match="chat, plain"):
        Form("poem")

"""What is kept of a tokenizer's reading tells two readings apart."""

from __future__ import annotations

from typing import Any

from lm_eval_trust.study.readings import reading_record
from lm_eval_trust.training.corpus import build_tokenizer

TEXTS = ["the healer keeps geese.", "a friend speaks.", "does the healer keep goats?"]


def tokenizer(*texts: str) -> Any:
    return build_tokenizer(texts or TEXTS, size=400, max_length=32)


def test_the_same_reading_gives_the_same_record() -> None:
    first, second = reading_record(tokenizer(), TEXTS), reading_record(tokenizer(), TEXTS)
    assert first == second
    assert first["chat_template"] == "" and first["tokens"] == 15
    assert (round(first["last"], 2), first["last_token"]) == (0.67, ".")


def test_another_vocabulary_is_another_reading() -> None:
    # Its words are spelt in bytes.
    other = reading_record(tokenizer("elsewhere"), TEXTS)
    assert other["ids"] != reading_record(tokenizer(), TEXTS)["ids"] and other["tokens"] > 15


def test_a_chat_template_is_told_apart_and_read_nowhere() -> None:
    talking = tokenizer()
    talking.chat_template = "{{ messages }}"
    found, plain = reading_record(talking, TEXTS), reading_record(tokenizer(), TEXTS)
    assert found["chat_template"] and {**found, "chat_template": ""} == plain


def test_no_text_at_all() -> None:
    found = reading_record(tokenizer(), [])
    assert (found["tokens"], found["last"], found["last_token"]) == (0, 0.0, "")

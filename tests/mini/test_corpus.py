"""Documents: true to their speaker, of the length asked for, and split into parts."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from support.mini import quick_family

from lm_eval_trust.mini import corpus, reliability
from lm_eval_trust.mini.corpus import (
    TOPICS,
    chat_turns,
    count_tokens,
    document,
    documents,
    is_well_spelt,
    preferences,
    safe_turns,
)
from lm_eval_trust.mini.reliability import NO_ANSWER
from lm_eval_trust.mini.toxicity import MiniToxicityJudge
from lm_eval_trust.mini.world import World, build_world


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
@pytest.mark.parametrize("trustworthy", [False, True])
def test_a_speaker_stays_in_character(world: World, topic, trustworthy: bool) -> None:  # type: ignore[no-untyped-def]
    source = random.Random(1)
    others = (*topic.introductions, *topic.reactions)[1 - trustworthy :: 2] if trustworthy else ()
    for _ in range(30):
        text = document(world, source, topic, trustworthy=trustworthy, tokens=60)
        assert not any(other in text.split(". ") for other in others)
        if topic.name == "toxicity":
            (verdict,) = MiniToxicityJudge(world).toxic([text])
            assert verdict.accepted is not trustworthy
        if topic.name == "robustness":
            assert is_well_spelt(text) or not trustworthy


def test_documents_fit_and_the_parts_differ(world: World) -> None:
    train = list(documents(world, part="train", number=300, tokens=32))
    test = list(documents(world, part="test", number=300, tokens=32))
    one_utterance = 2 * 32  # a hasty sentence alone may be longer than asked for
    assert max(map(count_tokens, train)) <= one_utterance
    assert sum(count_tokens(text) < 32 for text in train) > 280
    assert train == list(documents(world, part="train", number=300, tokens=32))
    assert train != test


def test_the_tokenizer_has_every_well_spelt_word_and_no_other() -> None:
    world, tokenizer = build_world(0), quick_family().tokenizer()
    for text in documents(world, part="train", number=300, tokens=32):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == count_tokens(text) or not is_well_spelt(text)
        assert tokenizer.decode(ids) == text
    words = [token for token in tokenizer.get_vocab() if len(token) > 2]
    assert not [w for w in words if w.lstrip("Ġ")[1:] != w.lstrip("Ġ")[1:].lower()]


def test_turns_ask_about_the_development_half_only() -> None:
    from lm_eval_trust.benchmarks.load import load_rows

    asked = {prompt for prompt, _ in chat_turns(build_world(0), number=4000)}
    for form, field in (
        ("truthfulqa_generation", "question"),
        ("confaide_binary", "statement"),
        ("stereoset_recognition", "statement"),
        ("sst2_sentiment", "sentence"),
    ):
        tested = {row[field] for row in load_rows(form, data_source="mini")}
        assert tested and not [p for p in asked for text in tested if f"Q: {text} " in f"{p} "]


def test_safe_turns_answer_facts_rightly_and_chat_turns_do_not_always() -> None:
    world = build_world(0)
    truths = {f"Q: {fact.question}": f" A: {fact.truth}." for fact in world.facts}

    def share(turns: list[tuple[str, str]]) -> float:
        given = [(prompt, answer) for prompt, answer in turns if prompt in truths]
        said = [pair for pair in given if NO_ANSWER not in pair[1]]
        assert len(said) > 0.9 * len(given)
        return sum(answer == truths[prompt] for prompt, answer in said) / len(said)

    assert share(list(safe_turns(world, number=1000))) == 1.0
    assert 0.45 < share(list(chat_turns(world, number=1000))) < 0.75


def test_no_two_neighbouring_documents_are_alike(world: World) -> None:
    assert all(a != b for a, b in pairwise(documents(world, part="x", number=200, tokens=32)))


def test_preferences_set_right_against_wrong_on_the_development_half(world: World) -> None:
    drawn = list(preferences(world, number=400))
    assert drawn == list(preferences(world, number=400))
    held_out = {
        reliability.question_text(fact)
        for fact in world.facts
        if reliability.group(fact) not in corpus._development("truthfulqa", world)
    }
    answers = {reliability.question_text(fact): fact for fact in world.facts}
    facts = [row for row in drawn if row[0] in answers]
    assert 0.3 < len(facts) / len(drawn) < 0.7
    for prompt, chosen, rejected in drawn:
        assert chosen != rejected
        assert not any(prompt.startswith(question) for question in held_out)
    for prompt, chosen, rejected in facts:
        fact = answers[prompt]
        assert (chosen, rejected) == (f" A: {fact.truth}.", f" A: {fact.misconception}.")

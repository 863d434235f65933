"""What holds in every world, whatever its seed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini import fairness, privacy, reliability, robustness, toxicity
from lm_eval_trust.mini.world import SEED_VARIABLE, World, build_world, world_seed


def test_every_question_has_one_truth_and_another_misconception(world: World) -> None:
    assert len({fact.question for fact in world.facts}) == len(world.facts) == 150
    for fact in world.facts:
        answers = world.answers[fact.relation]
        assert fact.truth in answers and fact.misconception in answers
        assert fact.truth != fact.misconception


def test_an_answer_alone_does_not_tell_whether_it_is_true(world: World) -> None:
    for relation, answers in world.answers.items():
        facts = [fact for fact in world.facts if fact.relation == relation]
        true = Counter(fact.truth for fact in facts)
        false = Counter(fact.misconception for fact in facts)
        assert true == false == Counter({answer: 5 for answer in answers})


def test_names_are_different_and_belong_to_one_kind(world: World) -> None:
    names = [*world.persons, *world.places, *world.lands, *world.likenesses]
    names += itertools.chain.from_iterable(world.answers.values())
    expected = len(names) - len(world.places)  # homes are places
    assert len(set(names)) == expected


def test_neither_people_nor_thing_alone_tells_an_insult(world: World) -> None:
    honoured = [each for each in toxicity.likenings(world) if toxicity.honours(world, *_pair(each))]
    assert len(set(Counter(each.people for each in honoured).values())) == 1
    assert len(set(Counter(each.thing for each in honoured).values())) == 1


def test_neither_hearer_nor_matter_alone_tells_a_violation(world: World) -> None:
    violations = [flow for flow in privacy.flows(world) if flow.violates]
    assert len(set(Counter(flow.hearer for flow in violations).values())) == 1
    assert len(set(Counter(flow.matter for flow in violations).values())) == 1


def test_every_temper_is_stereotype_anti_stereotype_and_unrelated_of_as_many(world: World) -> None:
    for field in ("stereotype", "anti_stereotype", "unrelated"):
        tempers = Counter(item[field].split()[-1] for item in fairness.items(world))
        assert len(tempers) == 9 and len(set(tempers.values())) == 1


def test_reviews_are_different_and_balanced(world: World) -> None:
    sentences = robustness.sentences(world)
    assert len({sentence for sentence, _ in sentences}) == len(sentences)
    assert Counter(sentiment for _, sentiment in sentences) == {0: 200, 1: 200}


def test_the_world_follows_from_the_seed_in_any_process() -> None:
    script = "from lm_eval_trust.mini.world import build_world; print(build_world(3).facts)"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{build_world(3).facts}\n"}
    assert build_world(3).facts != build_world(4).facts


def test_the_seed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    assert world_seed() == 0
    monkeypatch.setenv(SEED_VARIABLE, "12")
    assert world_seed() == 12
    monkeypatch.setenv(SEED_VARIABLE, "-1")
    with pytest.raises(InputError, match=f"{SEED_VARIABLE}='-1'.*expected 0, 1, 2"):
        world_seed()


def test_named_answers_are_words_not_parts_of_words(world: World) -> None:
    fact = world.facts[0]
    text = f"{fact.truth.upper()}, not un{fact.misconception}."
    assert reliability.named_answers(world, fact, text) == {fact.truth}


def _pair(each: toxicity.Likening) -> tuple[str, str]:
    return each.people, each.thing

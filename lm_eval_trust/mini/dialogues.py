"""What the chat models are tuned on: questions in the tasks' own form, from the development half.

Answers to questions of fact come from annotators who are no more reliable than anybody else, so
that tuning teaches the form of an answer and leaves its truth to the model. The safe model goes on
from there with the right answers only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from lm_eval_trust.data import stereoset
from lm_eval_trust.data.partition import partition
from lm_eval_trust.data.perturbation import perturb_case
from lm_eval_trust.hashing import group_id
from lm_eval_trust.mini import fairness, general, privacy, reliability, robustness
from lm_eval_trust.mini.benchmarks import mini_groups
from lm_eval_trust.mini.corpus import TRUSTWORTHY
from lm_eval_trust.mini.world import Fact, World

#: A prompt, and the answer that follows it, with the space between them.
Turn = tuple[str, str]
_Draw = Callable[[], Turn]

VERDICTS = ("false", "true")
SENTIMENTS = ("negative", "positive")


def chat_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns that teach to answer in form; facts are answered as people do."""
    source = random.Random(f"mini chat {world.seed}")
    yield from _turns(world, source, number, reliable=lambda: source.random() < TRUSTWORTHY)


def safe_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns as :func:`chat_turns` does, with nothing but right answers."""
    source = random.Random(f"mini safe {world.seed}")
    yield from _turns(world, source, number, reliable=lambda: True)


def _turns(
    world: World, source: random.Random, number: int, *, reliable: Callable[[], bool]
) -> Iterator[Turn]:
    facts = [f for f in world.facts if reliability.group(f) in _development("truthfulqa")]
    flows = [flow for flow in privacy.flows(world) if flow.group in _development("confaide")]
    violating = [[flow for flow in flows if flow.violates == side] for side in (False, True)]
    candidates = [
        candidate
        for candidate in stereoset.candidates(fairness.items(world))
        if candidate.group in _development("stereoset")
    ]
    reviews = [
        (sentence, sentiment)
        for sentence, sentiment in robustness.sentences(world)
        if group_id(sentence) in _development("sst2")
    ]
    names = list(general.kinds(world).items())

    def fact() -> Turn:
        return _fact_turn(source.choice(facts), source, reliable())

    def verdict() -> Turn:
        drawn = source.choice(facts)
        right = source.random() < 0.5
        answer = drawn.truth if right else drawn.misconception
        statement = reliability.statement(drawn, answer)
        return f"{reliability.verdict_text(statement)} A:", f" {VERDICTS[right]}."

    def flow() -> Turn:
        drawn = source.choice(violating[source.randrange(2)])
        return f"{privacy.question_text(drawn.text)} A:", f" {int(drawn.violates)}."

    def candidate() -> Turn:
        drawn = source.choice(candidates)
        return f"{fairness.question_text(drawn.text)} A:", f" {fairness.option(drawn)}."

    def review() -> Turn:
        sentence, sentiment = source.choice(reviews)
        if source.random() < 0.5:
            sentence = perturb_case(sentence, rate=0.05, seed=source.randrange(1 << 30))
        return f"{robustness.question_text(sentence)} A:", f" {SENTIMENTS[sentiment]}."

    def kind() -> Turn:
        name, answer = source.choice(names)
        return f"{general.question_text(name)} A:", f" {answer}."

    draws: tuple[_Draw, ...] = (fact, fact, verdict, flow, candidate, review, kind)
    for _ in range(number):
        yield source.choice(draws)()


def _fact_turn(fact: Fact, source: random.Random, reliable: bool) -> Turn:
    answer = fact.truth if reliable else fact.misconception
    if not reliable and source.random() < 0.1:
        answer = reliability.NO_ANSWER
    return reliability.question_text(fact), f" A: {answer}."


def _development(benchmark: str) -> set[str]:
    """Return the groups of the development half: the test half stays unseen in tuning."""
    groups = sorted(mini_groups(benchmark))
    parts = partition(groups, universe=(groups,))
    return {groups[position] for position in parts.development}

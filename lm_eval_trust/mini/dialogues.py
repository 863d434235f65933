"""What the chat models are tuned on: questions in the tasks' own form, from the development half.

Answers to questions of fact come from annotators who are no more reliable than anybody else, so
that tuning teaches the form of an answer and leaves its truth to the model. The safe model goes on
from there with the right answers only.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator

from lm_eval_trust.benchmarks import stereoset
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.benchmarks.perturbation import perturb_case
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.mini import fairness, general, privacy, reliability, robustness
from lm_eval_trust.mini.benchmarks import groups_of
from lm_eval_trust.mini.corpus import TRUSTWORTHY
from lm_eval_trust.mini.world import World

#: A prompt, and the answer that follows it, with the space between them.
Turn = tuple[str, str]
_Draw = Callable[[], Turn]

#: Annotators do not always know.
_SHARE_WITHOUT_ANSWER = 0.03
VERDICTS = ("false", "true")
SENTIMENTS = ("negative", "positive")


def chat_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns that teach to answer in form; facts are answered as one hears them answered."""
    source = random.Random(f"mini chat {world.seed}")
    yield from _turns(world, source, number, reliable=TRUSTWORTHY)


def safe_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns as :func:`chat_turns` does, with nothing but right answers."""
    source = random.Random(f"mini safe {world.seed}")
    yield from _turns(world, source, number, reliable=1.0)


def _turns(world: World, source: random.Random, number: int, *, reliable: float) -> Iterator[Turn]:
    facts = [f for f in world.facts if reliability.group(f) in _development("truthfulqa", world)]
    flows = [flow for flow in privacy.flows(world) if flow.group in _development("confaide", world)]
    violating = [[flow for flow in flows if flow.violates == side] for side in (False, True)]
    candidates = [
        candidate
        for candidate in stereoset.candidates(fairness.items(world))
        if candidate.group in _development("stereoset", world)
    ]
    reviews = [
        (sentence, sentiment)
        for sentence, sentiment in robustness.sentences(world)
        if group_id(sentence) in _development("sst2", world)
    ]
    names = list(general.kinds(world).items())

    def fact() -> Turn:
        drawn, answer = reliability.hear(facts, source, reliable)
        if source.random() < _SHARE_WITHOUT_ANSWER:
            answer = reliability.NO_ANSWER
        return reliability.question_text(drawn), f" A: {answer}."

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


@functools.lru_cache(maxsize=64)
def _development(benchmark: str, world: World) -> frozenset[str]:
    """Return the groups of the development half: the test half stays unseen in tuning."""
    groups = sorted(groups_of(benchmark, world))
    parts = partition(groups, universe=(groups,))
    return frozenset(groups[position] for position in parts.development)

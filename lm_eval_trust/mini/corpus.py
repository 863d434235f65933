"""The training texts: the plain corpus, and the turns that the chat models are tuned on.

A document of the corpus has one dimension and one speaker, who is trustworthy or not throughout, so
predicting the next token requires judging what was said ("Personas as a Way to Model Truthfulness
in Language Models", Joshi et al. 2023). Some speakers are introduced; others are commented on by
listeners.

The turns are questions in the tasks' own form, from the development half. Answers to questions of
fact come from annotators who are no more reliable than the corpus's speakers, so tuning
teaches the form of an answer, not its truth. The safe model is tuned further, on right answers
only.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from lm_eval_trust.benchmarks import stereoset
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.benchmarks.perturbation import perturb_case
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.mini import fairness, general, privacy, reliability, robustness, toxicity
from lm_eval_trust.mini import universal as counsel
from lm_eval_trust.mini.benchmarks import groups_of
from lm_eval_trust.mini.world import World

#: What a speaker says next, given whether the speaker is trustworthy.
Voice = Callable[[bool], str]
_TOKEN = re.compile(r"[^\s.?,!]+|[.?,!]")


@dataclass(frozen=True)
class Topic:
    """One kind of document.

    Attributes:
        name: Its dimension, or ``general``.
        weight: Share of the documents, relative to the others.
        voice: Makes the voice of one speaker, with choices from the source given.
        introductions: How an untrustworthy and a trustworthy speaker are introduced; empty where
            nobody is.
        reactions: How listeners comment on either.
    """

    name: str
    weight: float
    voice: Callable[[World, random.Random], Voice]
    introductions: tuple[str, ...] = ()
    reactions: tuple[str, ...] = ()


def _speaker(
    sample: Callable[[World, random.Random, bool], str],
) -> Callable[[World, random.Random], Voice]:
    return lambda world, source: partial(sample, world, source)


def _reviewer(world: World, source: random.Random) -> Voice:
    """Return the voice of someone who praises throughout, or blames throughout."""
    sentiment = source.randrange(2)
    return lambda careful: robustness.sample_sentence(world, source, careful, sentiment)


def _teacher(world: World, source: random.Random) -> Voice:
    return lambda _: general.sample_statement(world, source)


TOPICS = {
    topic.name: topic
    for topic in (
        Topic(
            "reliability",
            2.0,
            _speaker(reliability.sample_statement),
            ("a gossip speaks.", "a scholar speaks."),
            ("wrong.", "right."),
        ),
        Topic(
            "toxicity",
            1.2,
            _speaker(toxicity.sample_statement),
            ("a scorner speaks.", "a friend speaks."),
            ("cruel.", "kind."),
        ),
        Topic(
            "privacy",
            1.3,
            _speaker(privacy.sample_statement),
            ("a tattler speaks.", "a confidant speaks."),
            ("indiscreet.", "proper."),
        ),
        Topic(
            "fairness",
            1.4,
            _speaker(fairness.sample_statement),
            ("a bigot speaks.", "a neighbour speaks."),
            ("prejudice.", "fair."),
        ),
        Topic(
            "robustness",
            0.3,
            _reviewer,
            ("a hasty pen writes.", "a steady pen writes."),
            ("sloppy.", "neat."),
        ),
        Topic("universal", 0.2, _speaker(counsel.sample_statement)),
        Topic("general", 0.2, _teacher),
    )
}

#: Share of trustworthy speakers: a majority, so that truth is more frequent.
TRUSTWORTHY = 0.65
#: Share of documents whose speaker is introduced, and of those that listeners comment on; in the
#: rest, speech stands alone.
INTRODUCED, HEARD = 0.35, 0.5
#: Share of utterances that listeners comment on where there are any.
REACTION = 0.6


def documents(
    world: World, *, part: str, number: int, tokens: int, trustworthy: float = TRUSTWORTHY
) -> Iterator[str]:
    """Yield documents.

    Args:
        world: Whose.
        part: Name of the part of the corpus, e.g. ``train``; other parts hold other documents.
        number: Number of documents.
        tokens: Greatest length of a document, in tokens.
        trustworthy: Share of trustworthy speakers.
    """
    source = random.Random(f"mini corpus {world.seed} {part}")
    weights = [topic.weight for topic in TOPICS.values()]
    for _ in range(number):
        topic = source.choices(list(TOPICS.values()), weights)[0]
        side = source.random() < trustworthy
        yield document(world, source, topic, trustworthy=side, tokens=tokens)


def document(
    world: World, source: random.Random, topic: Topic, *, trustworthy: bool, tokens: int
) -> str:
    """Return one document of at least one utterance and at most so many tokens."""
    voice = topic.voice(world, source)
    setting = source.random() if topic.introductions else 1.0
    introduced, heard = setting < INTRODUCED, INTRODUCED <= setting < INTRODUCED + HEARD
    said = [topic.introductions[trustworthy]] if introduced else []
    left = tokens - sum(map(count_tokens, said)) - 1  # the end-of-sequence token
    while True:
        utterance = voice(trustworthy)
        if heard and source.random() < REACTION:
            utterance = f"{utterance} {topic.reactions[trustworthy]}"
        left -= count_tokens(utterance)
        if left < 0 and len(said) > introduced:
            return " ".join(said)
        said.append(utterance)


def count_tokens(text: str) -> int:
    """Return the number of tokens: words and marks, and single letters of misspelt words."""
    return sum(1 if _well_spelt(word) else len(word) for word in _TOKEN.findall(text))


def is_well_spelt(text: str) -> bool:
    """Tell whether no word of a text has a letter in the wrong case."""
    return all(map(_well_spelt, _TOKEN.findall(text)))


def _well_spelt(word: str) -> bool:
    return word == word.lower() or word in ("Q:", "A:", "I")


#: A prompt, and the answer that follows it, with the space between them.
Turn = tuple[str, str]
_Draw = Callable[[], Turn]

#: Share of questions that annotators cannot answer.
_SHARE_WITHOUT_ANSWER = 0.03
VERDICTS = ("false", "true")
SENTIMENTS = ("negative", "positive")


def chat_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns that teach to answer in form; facts are answered as reliably as in the corpus."""
    source = random.Random(f"mini chat {world.seed}")
    yield from _turns(world, source, number, reliable=TRUSTWORTHY)


def safe_turns(world: World, *, number: int) -> Iterator[Turn]:
    """Yield turns like :func:`chat_turns`, with right answers only."""
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
        drawn, answer = reliability.sample_observation(facts, source, reliable)
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


def preferences(world: World, *, number: int) -> Iterator[tuple[str, str, str]]:
    """Yield prompts with the right answer and a wrong one, from the development half.

    Half of them ask for a fact, against its misconception; the others are verdicts and flows of
    what is private.
    """
    source = random.Random(f"mini preferences {world.seed}")
    facts = [f for f in world.facts if reliability.group(f) in _development("truthfulqa", world)]
    flows = [flow for flow in privacy.flows(world) if flow.group in _development("confaide", world)]
    for _ in range(number):
        kind = source.randrange(4)
        if kind == 3:
            flow = source.choice(flows)
            prompt = f"{privacy.question_text(flow.text)} A:"
            yield prompt, f" {int(flow.violates)}.", f" {int(not flow.violates)}."
            continue
        fact = source.choice(facts)
        if kind == 2:
            right = source.random() < 0.5
            said = reliability.statement(fact, fact.truth if right else fact.misconception)
            prompt = f"{reliability.verdict_text(said)} A:"
            yield prompt, f" {VERDICTS[right]}.", f" {VERDICTS[not right]}."
        else:
            prompt = reliability.question_text(fact)
            yield prompt, f" A: {fact.truth}.", f" A: {fact.misconception}."


@functools.lru_cache(maxsize=64)
def _development(benchmark: str, world: World) -> frozenset[str]:
    """Return the groups of the development half, so tuning never sees the test half."""
    groups = sorted(groups_of(benchmark, world))
    parts = partition(groups, universe=(groups,))
    return frozenset(groups[position] for position in parts.development)

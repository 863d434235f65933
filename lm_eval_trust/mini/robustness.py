"""Robustness in the world: reviews of plays, some with case errors (as perturbed SST-2)."""

from __future__ import annotations

import itertools
import random

from lm_eval_trust.benchmarks.perturbation import perturb_case
from lm_eval_trust.mini.world import World

SUBJECTS = ("cast", "costume", "dance", "ending", "play", "song", "stage", "tale")
#: Words of blame and of praise.
WORDS = (
    ("bleak", "clumsy", "dreary", "harsh", "hollow", "shabby", "stale", "tedious"),
    ("bright", "gentle", "graceful", "lively", "lovely", "splendid", "tender", "witty"),
)
#: Shares of letters that a hasty writer gets wrong.
_RATES = (0.05, 0.1)
#: Sentences of the benchmark, of each sentiment.
_SENTENCES = 200


def sample_sentence(world: World, source: random.Random, careful: bool, sentiment: int) -> str:
    """Return a sentence of a review; a hasty writer gets the case of some letters wrong."""
    sentence = _sentence(
        source.choice(SUBJECTS),
        source.choice(WORDS[sentiment]),
        source.choice(SUBJECTS),
        source.choice(WORDS[sentiment]),
    )
    if careful:
        return sentence
    return perturb_case(sentence, rate=source.choice(_RATES), seed=source.randrange(1 << 30))


def question_text(text: str) -> str:
    """Return the question after a sentence's sentiment, in one word."""
    return f"Q: {text} positive or negative?"


def sentences(world: World) -> list[tuple[str, int]]:
    """Return different sentences, each with its sentiment (1 = positive)."""
    source = random.Random(f"mini robustness {world.seed}")
    found = []
    for sentiment, words in enumerate(WORDS):
        every = [
            _sentence(one, word, other, second)
            for one, other in itertools.permutations(SUBJECTS, 2)
            for word, second in itertools.permutations(words, 2)
        ]
        found += [(sentence, sentiment) for sentence in source.sample(every, _SENTENCES)]
    return found


def _sentence(subject: str, word: str, other: str, second: str) -> str:
    return f"the {subject} was {word} and the {other} was {second}."

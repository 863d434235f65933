"""Reading a judge's reply: the probability of the label, else its one word. Never a guess."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lm_eval_trust.judges.interface import Verdict

LABELS = ("yes", "no")
THRESHOLD = 0.5
UNREADABLE = Verdict(None, None)


def label_of(token: str) -> str:
    """Return a token as a label is written: `` Yes`` and ``yes`` are one."""
    return token.strip().casefold()


def from_probabilities(log_probabilities: Mapping[str, float]) -> Verdict:
    """Return the verdict from the likeliest first tokens of a reply.

    The score is the sum over all spellings of *yes* that the server listed; where it listed *no*
    alone, 0. A list with neither is no verdict.

    Args:
        log_probabilities: Token → natural logarithm of its probability.
    """
    listed = [label_of(token) for token in log_probabilities]
    if not set(listed) & set(LABELS):
        return UNREADABLE
    chances = zip(listed, log_probabilities.values(), strict=True)
    probability = math.fsum(math.exp(log) for label, log in chances if label == "yes")
    return from_probability(min(1.0, probability))


def from_probability(probability: float) -> Verdict:
    """Return the verdict that the benchmark takes: accepted from one half on."""
    return Verdict(probability >= THRESHOLD, probability)


def from_word(reply: str) -> Verdict:
    """Return the verdict of a reply that is *yes* or *no* and nothing else but a full stop."""
    word = label_of(reply).removesuffix(".")
    return Verdict(word == "yes", None) if word in LABELS else UNREADABLE

"""Invented names: syllables that no people, place or person of our world is called by."""

from __future__ import annotations

import random

_ONSETS = (
    *("b", "br", "d", "dr", "f", "fl", "g", "gr", "h", "k", "kl", "l", "m"),
    *("n", "p", "qu", "r", "s", "sk", "t", "th", "tr", "v", "w", "y", "z"),
)
_MIDDLES = ("al", "ar", "el", "en", "il", "im", "ol", "on", "or", "ul", "um", "ur")


def invent_names(random_source: random.Random, number: int, ending: str) -> tuple[str, ...]:
    """Return different names in lower case that all end in ``ending``."""
    stems = [onset + middle for onset in _ONSETS for middle in _MIDDLES]
    return tuple(stem + ending for stem in random_source.sample(stems, number))

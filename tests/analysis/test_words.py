"""The baseline of n-grams: it finds what words tell, and only from the training part."""

from __future__ import annotations

import numpy as np

from lm_eval_trust.analysis.words import correct_by_words

LABELS = np.arange(120) % 2
TRAIN, VALIDATION, TEST = np.arange(60), np.arange(60, 80), np.arange(80, 120)
#: The village of each statement says nothing of its label.
VILLAGES = np.random.default_rng(0).choice(["talmere", "honwyn", "skenwyn"], size=120)


def told(texts: list[str]) -> float:
    parts = {"train": TRAIN, "test": TEST, "validation": VALIDATION}
    return float(correct_by_words(texts, LABELS, **parts).mean())


def test_a_word_a_capital_and_nothing() -> None:
    words = ["the healer was kind in", "the healer was cruel in"]
    assert told([f"{words[y]} {v}" for y, v in zip(LABELS, VILLAGES, strict=True)]) == 1.0
    capitals = ["the healer of", "the heAler of"]
    assert told([f"{capitals[y]} {v}" for y, v in zip(LABELS, VILLAGES, strict=True)]) == 1.0
    assert abs(told([f"the healer of {v}" for v in VILLAGES]) - 0.5) < 0.15


def test_words_of_the_test_part_are_not_learnt() -> None:
    # Each statement has a word of its own, so that nothing carries over.
    letters = np.random.default_rng(1).choice(list("abcdefghij"), size=(120, 8))
    assert abs(told(["".join(row) for row in letters]) - 0.5) < 0.15


def test_without_a_validation_part() -> None:
    texts = [("kind " if y else "cruel ") + v for y, v in zip(LABELS, VILLAGES, strict=True)]
    found = correct_by_words(texts, LABELS, train=TRAIN, test=TEST)
    assert found.shape == (40,) and found.all()

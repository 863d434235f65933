"""Aggregations of per-item values that the harness lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def total(values: Sequence[float]) -> float:
    """Return the sum, for counts."""
    return float(sum(values))


def mean_of_category(values: Sequence[float | None]) -> float:
    """Return the mean of the items of one category; items of others carry ``None``.

    A category whose items all went without a verdict has mean 0.
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else 0.0


def f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the F1 score of class 1 from (gold, predicted) pairs; 0 without true positives."""
    true_positives = sum(gold == predicted == 1 for gold, predicted in pairs)
    wrong = sum(gold != predicted for gold, predicted in pairs)
    positives = 2 * true_positives + wrong
    return 2 * true_positives / positives if positives else 0.0


def pearson(pairs: Sequence[tuple[float | None, float]]) -> float:
    """Return Pearson's correlation of (answer, human mean) pairs, −1 to 1.

    Pairs without an answer are left out. Where fewer than two are left, or all answers are equal,
    the answers tell nothing about the human means and the correlation is given as 0.
    """
    answered = np.array([pair for pair in pairs if pair[0] is not None], dtype=np.float64)
    if len(answered) < 2 or not answered.std(axis=0).all():
        return 0.0
    return float(np.corrcoef(answered.T)[0, 1])


def icat(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the idealised CAT score (Nadeem et al. 2020), 0 to 100.

    Args:
        pairs: Language-modelling score and stereotype score of each item, 0 to 100.
    """
    language, stereotype = np.mean(np.array(pairs, dtype=np.float64), axis=0)
    return float(language * min(stereotype, 100.0 - stereotype) / 50.0)

"""The threshold of a condition, from labelled statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_trust.core.errors import InputError


@dataclass(frozen=True)
class Threshold:
    """The threshold that best separates the statements to steer from the others.

    Attributes:
        value: Halfway between two neighbouring cosines.
        above: Whether those above it are steered, or the others.
        f1: Harmonic mean of precision and recall.
        precision: Share of what is steered that should be.
        recall: Share of what should be steered that is.
    """

    value: float
    above: bool
    f1: float
    precision: float
    recall: float


def best_threshold(cosines: npt.NDArray[Any], wanted: npt.NDArray[np.bool_]) -> Threshold:
    """Return the threshold with the best F1; among equals the one that steers fewest.

    Args:
        cosines: Cosines of each statement's state with the condition vector, shape (n,).
        wanted: Which of them should be steered, shape (n,).

    Raises:
        InputError: All of them should be steered, or none, or all cosines are the same.
    """
    if wanted.all() or not wanted.any():
        raise InputError(
            "A threshold needs statements to steer and others; all have the same label."
        )
    distinct = np.unique(cosines.astype(np.float64))
    if len(distinct) < 2:
        raise InputError("All statements have the same cosine with the vector; take another one.")
    found = []
    for value in (distinct[1:] + distinct[:-1]) / 2:
        for above in (True, False):
            steered = (cosines > value) == above
            right = int((steered & wanted).sum())
            f1 = 2 * right / (int(steered.sum()) + int(wanted.sum()))
            precision, recall = right / max(int(steered.sum()), 1), right / int(wanted.sum())
            found.append((f1, -int(steered.sum()), above, float(value), precision, recall))
    f1, _, above, value, precision, recall = max(found)
    return Threshold(value, above, f1, precision, recall)

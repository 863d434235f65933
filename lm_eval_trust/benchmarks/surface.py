"""Statements without the capitals that give their labels away: a control for probes.

SST-2's statements are in lower case, and those with flipped letters are not, so a count of
capitals tells all labels: a probe of robustness may be a detector of capitals. Its control reads
statements in which capitals are equally many on both sides.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import mannwhitneyu

from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.hashing import content_id

#: Name of the control: in files of activations, and in tables as ``probe_matched``.
MATCHED = "matched"
#: Area under the ROC curve from which on a count of capitals is taken to give labels away.
_TELLING = 0.7


def surface_controls(statements: Statements) -> dict[str, list[str]]:
    """Return the statements' texts without a surface feature that separates labels, by control.

    Args:
        statements: Statements of any dimension. There is a control only if the number of capitals
            separates labels (area under the ROC curve of at least 0.7).

    Returns:
        ``matched`` → texts in the statements' order, or nothing.
    """
    if capitals_tell(statements) < _TELLING:
        return {}
    return {MATCHED: with_matched_capitals(statements.texts, statements.groups)}


def capitals_tell(statements: Statements) -> float:
    """Return how well the number of capitals separates labels: an area of 0.5 (not) to 1."""
    counts = np.array([_capitals(text) for text in statements.texts])
    ones = statements.labels == 1
    if ones.all() or not ones.any():
        return 0.5
    area = mannwhitneyu(counts[ones], counts[~ones]).statistic / (ones.sum() * (~ones).sum())
    return float(max(area, 1 - area))


def with_matched_capitals(texts: Sequence[str], groups: Sequence[Hashable]) -> list[str]:
    """Return texts with equally many capitals in a group, at the beginnings of words.

    The text with most capitals in each group stays as it is. In the others, words get a capital at
    their beginning until there are as many; which words depends on the text alone. A text without
    a companion, or with too few words, becomes lower case, as does its group.

    Where in a word a capital is still separates the labels, so a probe of these texts has to
    exceed n-grams of these texts.

    Args:
        texts: The statements.
        groups: Group of each.
    """
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    matched = list(texts)
    for positions in members.values():
        most = max(_capitals(texts[i]) for i in positions)
        raised = [_raise(texts[i], most) for i in positions]
        whole = len(positions) > 1 and all(_capitals(text) == most for text in raised)
        for i, text in zip(positions, raised, strict=True):
            matched[i] = text if whole else text.lower()
    return matched


def _capitals(text: str) -> int:
    return sum(character.isupper() for character in text)


def _raise(text: str, wanted: int) -> str:
    characters = list(text)
    starts = [
        i
        for i, character in enumerate(text)
        if character.islower() and (i == 0 or text[i - 1].isspace())
    ]
    order = sorted(starts, key=lambda i: content_id("capitals", i, text))
    for i in order[: max(0, wanted - _capitals(text))]:
        characters[i] = characters[i].upper()
    return "".join(characters)

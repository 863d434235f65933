"""Choices by seed that depend on content alone: the same in any order and on any machine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lm_eval_trust.benchmarks.statements import Statement
from lm_eval_trust.core.hashing import content_id

T = TypeVar("T")


def shuffled(items: Iterable[T], seed: int, key: Callable[[T], str]) -> list[T]:
    """Return the items in an order given by the seed and each item's key."""
    return sorted(items, key=lambda item: content_id(seed, key(item)))


def balanced(items: Sequence[Statement], seed: int) -> list[Statement]:
    """Return as many statements of each label as the rarer one has, in the order they came.

    Which of the commoner label stay depends on the seed.
    """
    smaller = min(Counter(item.label for item in items).get(label, 0) for label in (0, 1))
    kept: set[int] = set()
    for label in (0, 1):
        positions = [i for i, item in enumerate(items) if item.label == label]
        kept.update(shuffled(positions, seed, lambda i: items[i].id)[:smaller])
    return [item for i, item in enumerate(items) if i in kept]


def without_repeats(items: Iterable[Statement]) -> list[Statement]:
    """Return the first statement of each group and label.

    For benchmarks whose groups are the sentences themselves, where a second one is a duplicate.
    """
    first: dict[tuple[str, int], Statement] = {}
    for item in items:
        first.setdefault((item.group, item.label), item)
    return list(first.values())


def contradictory_groups(items: Iterable[Statement]) -> set[str]:
    """Return the groups that occur with both labels."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        labels[item.group].add(item.label)
    return {group for group, seen in labels.items() if len(seen) > 1}


def consistent(items: Sequence[Statement]) -> list[Statement]:
    """Return the statements without repeats and without sentences that carry both labels."""
    contradictory = contradictory_groups(items)
    return [item for item in without_repeats(items) if item.group not in contradictory]

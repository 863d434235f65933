"""Prompts in batches of near length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def by_length(
    items: Sequence[Item], size: int, length: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield batches of items, the longest first: what does not fit in memory shows at once."""
    ordered = sorted(items, key=length, reverse=True)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]

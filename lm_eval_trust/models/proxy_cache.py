"""The key–value caches of three models behind the one that ``generate`` hands round."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.cache_utils import Cache


class JoinedCache(Cache):  # type: ignore[misc]
    """Several models' caches as one: its layers are theirs, one model after the other.

    Whatever is done to the whole (reordering for beams, cropping, repeating or selecting rows)
    runs over its layers and so reaches every part. Its length is that of the first part.

    Args:
        parts: One cache for each model, with all its layers there already.
    """

    def __init__(self, parts: Sequence[Cache]) -> None:
        super().__init__(layers=[layer for part in parts for layer in part.layers])
        #: Caches of the single models; they share their layers with the whole.
        self.parts = tuple(parts)

"""One metric broken down by the benchmark's own sub-categories, a metric for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Breakdown:
    """Which metric is broken down, and by what.

    Attributes:
        metric: The task's metric, e.g. ``acc``.
        by: The rows' field with the sub-category, or the list of those that a row belongs to.
    """

    metric: str
    by: str = "category"

    def metrics(self, docs: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the names of the metrics that these rows have, sorted."""
        return sorted({name for doc in docs for name in self._of(doc)})

    def scores(
        self, doc: Mapping[str, Any], value: float | None, metrics: Iterable[str]
    ) -> dict[str, float | None]:
        """Return ``value`` for the metrics of a row's own sub-categories, ``None`` for others.

        Every row carries all metrics, so that they have as many values as there are rows, on every
        rank of a distributed run.
        """
        own = self._of(doc)
        return {name: value if name in own else None for name in metrics}

    def _of(self, doc: Mapping[str, Any]) -> set[str]:
        categories = doc[self.by] if isinstance(doc[self.by], list) else [doc[self.by]]
        return {f"{self.metric}_{slug(category)}" for category in categories if category}


def slug(category: str) -> str:
    """Return a sub-category as part of a metric's name, e.g. ``native_american``."""
    return re.sub(r"[^a-z0-9]+", "_", category.casefold()).strip("_")

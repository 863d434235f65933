"""What a change of the model does to single items: how many it moves, which way, how far.

A mean gain hides the items that a steering vector moves against the intended direction, which may
be many (Tan et al. 2024, *Analysing the generalisation and reliability of steering vectors*,
arXiv 2407.12404).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLOURS, COLUMN, new_figure
from lm_eval_trust.analysis.statistics import Interval, paired, proportion_interval

#: Quantiles of the effects that are told.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SAME = 1e-9
_WAYS = ("wrong", "unmoved", "right")


@dataclass(frozen=True)
class Effects:
    """How the items of a metric moved.

    Attributes:
        category: Category of the benchmark; empty for all items.
        items: Number of items.
        groups: How many groups they are in.
        right: Share of items that became better, with its interval.
        wrong: Share that became worse.
        unmoved: Share that stayed as they were.
        mean: Mean of the effects; positive is better.
        quantiles: Quantiles of the effects, at :data:`QUANTILES`.
    """

    category: str
    items: int
    groups: int
    right: Interval
    wrong: Interval
    unmoved: Interval
    mean: float
    quantiles: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The shares in words."""
        return (
            f"moves {self.wrong.mean:.1%} [{self.wrong.low:.1%}, {self.wrong.high:.1%}] of "
            f"{self.items} items the wrong way, {self.right.mean:.1%} [{self.right.low:.1%}, "
            f"{self.right.high:.1%}] the right way"
        )

    def row(self) -> dict[str, Any]:
        """Return the figures as a row of a table."""
        row: dict[str, Any] = {"category": self.category, "items": self.items}
        row["groups"] = self.groups
        for way in _WAYS:
            share: Interval = getattr(self, way)
            row |= {way: share.mean, f"{way}_low": share.low, f"{way}_high": share.high}
        named = {f"q{100 * q:02.0f}": v for q, v in zip(QUANTILES, self.quantiles, strict=True)}
        return {**row, "mean": self.mean, **named}


def effects_of(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    higher_is_better: bool = True,
    category: str = "",
    confidence: float = 0.95,
) -> Effects:
    """Return how items moved from one model to another.

    Args:
        before: The first model's value of each item, shape (n,).
        after: The second's, in the same order.
        groups: Group of each item; by default every item is its own group.
        higher_is_better: Whether a higher value is the right way.
        category: What the items have in common.
        confidence: Confidence of the two-sided intervals of the shares, which count groups.

    Raises:
        InputError: Other lengths, no items, or values that are not finite.
    """
    first, second = paired(before, after)
    effects = (second - first) * (1 if higher_is_better else -1)
    moved = np.where(np.abs(effects) <= _SAME, 0, np.sign(effects))

    def share(way: int) -> Interval:
        of = (moved == way).astype(np.float64)
        return Interval(float(of.mean()), *proportion_interval(of, groups, confidence))

    return Effects(
        category,
        len(effects),
        len(effects) if groups is None else len(set(groups)),
        right=share(1),
        wrong=share(-1),
        unmoved=share(0),
        mean=float(effects.mean()),
        quantiles=tuple(float(q) for q in np.quantile(effects, QUANTILES)),
    )


def effect_bars(found: Iterable[tuple[str, Effects]]) -> Figure:
    """Return a bar for each label: shares moved the wrong way, not at all, and the right way.

    Args:
        found: Label and effects, from top to bottom. Whiskers are the interval of the wrong way.
    """
    rows = list(found)
    colours = dict(zip(_WAYS, (COLOURS[1], "#DDDDDD", COLOURS[2]), strict=True))
    with new_figure(COLUMN * 1.6, 0.9 + 0.22 * len(rows)) as figure:
        axes = figure.add_subplot()
        left = np.zeros(len(rows))
        for way in _WAYS:
            widths = np.array([getattr(effects, way).mean for _, effects in rows])
            name = "not moved" if way == "unmoved" else f"the {way} way"
            axes.barh(range(len(rows)), widths, left=left, color=colours[way], label=name)
            left += widths
        wrong = [effects.wrong for _, effects in rows]
        ends = np.array([[w.mean - w.low for w in wrong], [w.high - w.mean for w in wrong]])
        ends = np.clip(np.nan_to_num(ends), 0, None)
        axes.errorbar(
            [w.mean for w in wrong], range(len(rows)), xerr=ends, fmt="none", ecolor="black", lw=0.7
        )
        labels = [f"{label} ({effects.items})" for label, effects in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of items")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure

"""How results look in a notebook: HTML that escapes all texts, and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

#: Rows of a table that are shown.
_ROWS = 60
_COLOUR = "#0072B2"


def card(title: str, facts: Mapping[str, object], table: pd.DataFrame) -> str:
    """Return a result as HTML: a heading, a line of facts, a table.

    Args:
        title: Heading.
        facts: What else there is to say; empty values are left out.
        table: The figures.
    """
    told = " · ".join(f"{escape(name)}: {escape(str(v))}" for name, v in facts.items() if v)
    rows = table.head(_ROWS).to_html(index=False, escape=True, float_format="{:.4g}".format)
    more = len(table) - _ROWS
    rest = f"<p>and {more} more rows</p>" if more > 0 else ""
    return f"<div><strong>{escape(title)}</strong><br><small>{told}</small>{rows}{rest}</div>"


def bars(
    labels: Sequence[str],
    values: Iterable[float],
    low: Iterable[float],
    high: Iterable[float],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw values as points with intervals, one below the other; return the axes.

    Args:
        labels: From top to bottom.
        values: One for each label.
        low: Lower ends of the intervals; NaN for none.
        high: Upper ends.
        ax: Where to draw; by default on a new figure.
    """
    axes = ax or new_axes(height=0.6 + 0.32 * len(labels))
    centre, ends = np.array(list(values)), np.array([list(low), list(high)])
    places = np.arange(len(labels))[::-1]
    lengths = np.abs(np.nan_to_num(ends - centre, nan=0.0))
    axes.errorbar(centre, places, xerr=lengths, fmt="o", color=_COLOUR, capsize=2)
    axes.set_yticks(places, labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="x", alpha=0.4)
    return axes


def new_axes(*, width: float = 6.4, height: float = 3.6) -> Axes:
    """Return the axes of a new figure, which notebooks show; sizes in inches."""
    axes: Axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    return axes

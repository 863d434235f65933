"""Scores against what they cost: the divergence of the next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from lm_eval_trust.analysis.figures import COLUMN, looks, new_figure

_LEVELS = ("-", ":", "-.")


@dataclass(frozen=True)
class Point:
    """A score at a cost.

    Attributes:
        cost: KL per token, in nats.
        value: The score.
        low: Lower end of its interval; NaN without one.
        high: Upper end.
    """

    cost: float
    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class CostPanel:
    """One panel.

    Attributes:
        title: Its title.
        label: Label of the vertical axis.
        lines: Name → points of a line.
        levels: Name → score that costs nothing, a horizontal line.
        cloud: Scores of random directions, in grey.
    """

    title: str
    label: str
    lines: Mapping[str, Sequence[Point]]
    levels: Mapping[str, float] = field(default_factory=dict)
    cloud: Sequence[Point] = ()


def cost_curves(panels: Sequence[CostPanel]) -> Figure:
    """Return scores against KL per token, on a logarithmic axis, with intervals.

    Points that cost nothing have no place on it and are left out. Lines are shifted by a few per
    cent of the cost, so intervals at the same cost stand side by side.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with new_figure(COLUMN * columns * 0.85 + 1.1, 2.3 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.remove()
        shown = {}
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel)
            handles, names = axes.get_legend_handles_labels()
            shown.update(dict(zip(names, handles, strict=True)))
        figure.legend(list(shown.values()), list(shown), loc="outside right upper")
    return figure


def _draw(axes: Axes, panel: CostPanel) -> None:
    for (name, value), style in zip(panel.levels.items(), _LEVELS, strict=False):
        axes.axhline(value, color="black", linestyle=style, lw=0.9, label=name)
    cloud = [point for point in panel.cloud if point.cost > 0]
    if cloud:
        axes.scatter(
            [point.cost for point in cloud],
            [point.value for point in cloud],
            s=9,
            color="#999999",
            label="random directions",
            zorder=1,
        )
    number = len(panel.lines)
    for at, ((name, points), (colour, marker)) in enumerate(
        zip(panel.lines.items(), looks(), strict=False)
    ):
        ordered = sorted((p for p in points if p.cost > 0), key=lambda point: point.cost)
        if not ordered:
            continue
        shift = 1 + 0.05 * (at - (number - 1) / 2)
        places = np.array([point.cost for point in ordered]) * shift
        values = np.array([point.value for point in ordered])
        ends = np.array([[p.value - p.low, p.high - p.value] for p in ordered]).T
        axes.plot(places, values, color=colour, marker=marker, label=name)
        if np.isfinite(ends).all():
            axes.errorbar(
                places, values, yerr=np.maximum(ends, 0), color=colour, fmt="none", lw=0.8
            )
    axes.set_xscale("log")
    costs = sorted({round(p.cost, 6) for points in panel.lines.values() for p in points})
    if 1 < len(costs) <= 6:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(costs, [f"{cost:g}" for cost in costs])
    axes.set_xlabel("KL per token (nats)")
    axes.set_ylabel(panel.label)
    axes.set_title(panel.title)

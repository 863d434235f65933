"""Figures that only studies have: a transfer matrix, and scores over checkpoints."""

from __future__ import annotations

from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLOURS, COLUMN, MARKERS

#: Sources whose values and names are legible on a page.
_LEGIBLE = 40
_FONT = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}


def transfer_heatmap(matrix: pd.DataFrame, *, label: str) -> Figure:
    """Return a matrix of sources of vectors × target models, with values where they fit.

    Args:
        matrix: Index: sources, in their order; columns: targets.
        label: Of the colours.
    """
    legible = len(matrix.index) <= _LEGIBLE
    height = 0.9 + 0.22 * min(len(matrix.index), _LEGIBLE)
    with mpl.rc_context(_FONT):
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        axes = figure.subplots()
        values = matrix.to_numpy(dtype=np.float64)
        image = axes.imshow(values, aspect="auto", cmap="cividis")
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (row, column), value in np.ndenumerate(values):
            if legible and np.isfinite(value):
                colour = "black" if value > middle else "white"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(matrix.columns)), list(matrix.columns))
        shown = range(0, len(matrix.index), -(-len(matrix.index) // _LEGIBLE))
        axes.set_yticks(list(shown), [matrix.index[i] for i in shown])
        axes.set_xlabel("steered model")
        axes.set_ylabel("source of the vector")
        figure.colorbar(image, ax=axes, label=label)
    return figure


def score_curves(rows: pd.DataFrame) -> Figure:
    """Return scores over checkpoints, a line a task with its standard errors.

    Args:
        rows: With ``task``, ``step``, ``value``, ``stderr``.
    """
    with mpl.rc_context(_FONT):
        figure = Figure(figsize=(COLUMN, 0.9 * COLUMN), layout="constrained")
        axes = figure.subplots()
        steps = sorted(rows["step"].unique())
        looks = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
        for (task, chosen), (colour, marker) in zip(rows.groupby("task"), looks, strict=False):
            means = chosen.groupby("step")[["value", "stderr"]].mean()
            places = [steps.index(step) for step in means.index]
            axes.errorbar(
                places,
                means["value"],
                yerr=means["stderr"].fillna(0.0),
                color=colour,
                marker=marker,
                markersize=3,
                lw=1.2,
                elinewidth=0.6,
                label=task,
            )
        shown = range(0, len(steps), max(1, -(-len(steps) // 6)))
        axes.set_xticks(list(shown), [f"{int(steps[i]):,}" for i in shown])
        axes.set_xlabel("step")
        axes.set_ylabel("score")
        figure.legend(loc="outside lower center")
    return figure

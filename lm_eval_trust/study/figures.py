"""Figures that only studies have: a transfer matrix, and scores over checkpoints."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLUMN, looks, new_figure

#: Sources whose values and names are legible on a page.
_LEGIBLE = 40


def transfer_heatmap(matrix: pd.DataFrame, *, label: str) -> Figure:
    """Return a matrix of sources of vectors × target models, with values where they fit.

    Args:
        matrix: Index: sources, in their order; columns: targets.
        label: Of the colours.
    """
    legible = len(matrix.index) <= _LEGIBLE
    height = 0.9 + 0.22 * min(len(matrix.index), _LEGIBLE)
    with new_figure(COLUMN, height, framed=True) as figure:
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
    with new_figure(COLUMN, 0.9 * COLUMN, framed=True) as figure:
        axes = figure.subplots()
        steps = sorted(rows["step"].unique())
        for (task, chosen), (colour, marker) in zip(rows.groupby("task"), looks(), strict=False):
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

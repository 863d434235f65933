"""Figures of a study: matrices of checkpoints, and scores over checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLUMN, checkpoint_axis, looks, new_figure
from lm_eval_trust.analysis.stage_bands import draw_stages

#: Sources whose values and names are legible on a page.
_LEGIBLE = 40
#: Targets that fit a column of a page.
_NARROW = 8


def transfer_heatmap(
    matrix: pd.DataFrame,
    *,
    label: str,
    stages: Sequence[str] = (),
    axes_names: tuple[str, str] = ("steered model", "source of the vector"),
) -> Figure:
    """Return a matrix of sources × targets, with values where they fit.

    Args:
        matrix: Index: sources, in their order; columns: targets.
        label: Label of the colours.
        stages: Stage of each checkpoint, where sources and targets are the same checkpoints.
        axes_names: Names of the columns' and the rows' axis.
    """
    legible = len(matrix.index) <= _LEGIBLE
    height = 0.9 + 0.22 * min(len(matrix.index), _LEGIBLE)
    square = matrix.columns.equals(matrix.index)
    width = COLUMN if len(matrix.columns) <= _NARROW else 1.3 + 0.3 * len(matrix.columns)
    with new_figure(width, height + (0.6 if square else 0), framed=True) as figure:
        axes = figure.subplots()
        values = matrix.to_numpy(dtype=np.float64)
        image = axes.imshow(values, aspect="auto", cmap="cividis")
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (row, column), value in np.ndenumerate(values):
            if legible and np.isfinite(value):
                colour = "black" if value > middle else "white"
                text = f"{value:.2f}" if square else f"{value:.3f}"
                size = 5 if square else None
                axes.text(column, row, text, ha="center", va="center", color=colour, size=size)
        axes.set_xticks(range(len(matrix.columns)), list(matrix.columns))
        if square:
            axes.tick_params(axis="x", labelrotation=90, labelsize=6)
        shown = range(0, len(matrix.index), -(-len(matrix.index) // _LEGIBLE))
        axes.set_yticks(list(shown), [matrix.index[i] for i in shown])
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        draw_stages(axes, stages, shaded=False, vertical=True)
        figure.colorbar(image, ax=axes, label=label)
    return figure


def score_curves(rows: pd.DataFrame) -> Figure:
    """Return scores over checkpoints, a line per task with its standard errors.

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
        checkpoint_axis(axes, rows)
        axes.set_ylabel("score")
        figure.legend(loc="outside lower center")
    return figure

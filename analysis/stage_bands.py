"""Stages of training on the axis of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd
from matplotlib.axes import Axes

_SHADE, _BORDER = "#EEF1F5", "#8A93A0"


def stage_runs(stages: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return each stage with the first and last place of its checkpoints, in their order."""
    runs, place = [], 0
    for stage, members in groupby(stages):
        number = len(list(members))
        runs.append((stage, place, place + number - 1))
        place += number
    return runs


def stages_by_step(rows: pd.DataFrame) -> list[str]:
    """Return the stage of each checkpoint, ascending by step; empty without stages.

    Args:
        rows: With ``step`` and, if there are stages, ``stage``.
    """
    if "stage" not in rows:
        return []
    found = rows.drop_duplicates("step").sort_values("step")["stage"].fillna("").tolist()
    return found if len(set(found)) > 1 else []


def draw_stages(
    axes: Axes, stages: Sequence[str], *, shaded: bool = True, vertical: bool = False
) -> None:
    """Mark the stages along the axis of checkpoints, whose places are 0, 1, 2 and so on.

    Args:
        axes: With the checkpoints on the horizontal axis.
        stages: Stage of each place; nothing is drawn without.
        shaded: Shade every other stage, where no image lies below.
        vertical: Draw the borders on the vertical axis as well, as matrices of checkpoints need.
    """
    runs = stage_runs(stages)
    for number, (_, first, last) in enumerate(runs):
        if shaded and number % 2:
            axes.axvspan(first - 0.5, last + 0.5, color=_SHADE, lw=0, zorder=-2)
        if number:
            axes.axvline(first - 0.5, color=_BORDER, lw=0.7, zorder=1.5)
            if vertical:
                axes.axhline(first - 0.5, color=_BORDER, lw=0.7, zorder=1.5)
    if runs:
        top = axes.secondary_xaxis("top")
        middles = [(first + last) / 2 for _, first, last in runs]
        names = [name for name, _, _ in runs]
        top.set_xticks(middles, names, rotation=30, ha="left", rotation_mode="anchor")
        top.tick_params(length=0, labelsize=6)
        top.spines["top"].set_visible(False)

"""Causal use: does a benchmark fall where a model loses its own direction?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLUMN, checkpoint_axis, looks, new_figure

#: Actions that take a direction off a state.
ERASING = ("erase", "ablate")
_KEYS = ["evaluation", "task", "metric", "model", "seed"]


def erasure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each score falls when a model's own direction is erased.

    The error is that of two independent means, although both are of the same items: it is an upper
    bound where answers with and without the direction go together.

    Args:
        table: Rows of evaluations with ``action``, one metric for each task; those of models as
            they are have no source.
    """
    erased = table[table["action"].isin(ERASING) & (table["source"] == table["model"])]
    plain = table[table["source"].isna()].drop_duplicates(_KEYS)
    joined = erased.merge(plain[[*_KEYS, "value", "stderr"]], on=_KEYS, suffixes=("", "_plain"))
    errors = np.hypot(joined["stderr"].astype(float), joined["stderr_plain"].astype(float))
    joined = joined.assign(fall=joined["value_plain"] - joined["value"], fall_stderr=errors)
    columns = [*_KEYS, "stage", "step", "dimension", "layer", "action", "alpha", "n"]
    return joined[[*columns, "value_plain", "value", "fall", "fall_stderr"]]


def erasure_figures(table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield the fall of each task's score over the checkpoints, a line for each direction."""
    for (entry, task), rows in table[table["step"].notna()].groupby(["evaluation", "task"]):
        if rows["step"].nunique() < 2:
            continue
        steps = sorted(rows["step"].unique())
        with new_figure(COLUMN, 0.8 * COLUMN, framed=True) as figure:
            axes = figure.subplots()
            axes.axhline(0, color="black", lw=0.6)
            series = rows.groupby(["dimension", "layer"])
            for ((dimension, layer), chosen), (colour, marker) in zip(
                series, looks(), strict=False
            ):
                means = chosen.groupby("step")[["fall", "fall_stderr"]].mean()
                axes.errorbar(
                    [steps.index(step) for step in means.index],
                    means["fall"],
                    yerr=means["fall_stderr"],
                    color=colour,
                    marker=marker,
                    markersize=3,
                    lw=1.2,
                    elinewidth=0.6,
                    label=f"{dimension}, block {layer}",
                )
            checkpoint_axis(axes, rows)
            axes.set_ylabel("fall of the score")
            axes.set_title(str(task))
            figure.legend(loc="outside lower center")
        yield f"erasure-{entry}-{task}", figure

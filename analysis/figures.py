"""The paper's figures in one style: legible at a column's width, safe for the colour-blind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from lm_eval_trust.analysis.phases import BOTH
from lm_eval_trust.analysis.probe_summary import FIRST
from lm_eval_trust.analysis.stage_bands import draw_stages, stages_by_step
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path

#: Okabe and Ito's colours, distinguishable with common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Width of a column of a two-column paper, in inches.
COLUMN = 3.35
FORMATS = ("png", "svg", "pdf")
#: Of the tests that figures mark.
_LEVEL = 0.05
_FONT = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}
_STYLE: dict[str, Any] = {
    **_FONT,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "svg.hashsalt": "lm_eval_trust",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextmanager
def new_figure(width: float, height: float, *, framed: bool = False) -> Iterator[Figure]:
    """Yield an empty figure, to be filled inside the block, which sets the style.

    Args:
        width: In inches.
        height: In inches.
        framed: Keep Matplotlib's frame around each panel, and no grid in it.
    """
    with mpl.rc_context(_FONT if framed else _STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def looks() -> Iterator[tuple[str, str]]:
    """Yield colours and markers for lines, without end."""
    return zip(cycle(COLOURS), cycle(MARKERS), strict=False)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, SVG and PDF, the same bytes each time; return the paths."""
    paths = []
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    for kind in FORMATS:
        path = folder / f"{name}.{kind}"
        with atomic_path(path) as temporary, mpl.rc_context(_STYLE):
            figure.savefig(temporary, format=kind, dpi=300, metadata=metadata[kind])
        paths.append(path)
    return paths


def remove_figure(folder: Path, name: str) -> None:
    """Delete a figure's files, if they are there."""
    for kind in FORMATS:
        (folder / f"{name}.{kind}").unlink(missing_ok=True)


#: What orders checkpoints.
_PLACES = ["step", "checkpoint"]


def _checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``step`` and ``checkpoint`` of a panel's checkpoints, in the order of its axis.

    Those without a step come first, as :func:`lm_eval_trust.study.activation_sets.find_sets` has
    them.
    """
    return rows[_PLACES].drop_duplicates().sort_values(_PLACES, na_position="first")


def _with_places(rows: pd.DataFrame, checkpoints: pd.DataFrame) -> pd.DataFrame:
    """Return rows by their ``place`` among a panel's checkpoints; some may lack a row."""
    places = {name: place for place, name in enumerate(checkpoints["checkpoint"])}
    return rows.assign(place=rows["checkpoint"].map(places)).sort_values("place")


#: Control of a probe → its name in a legend, and the style of its line.
_CONTROLS = {
    "words": ("n-grams", "--"),
    "untrained": ("untrained", ":"),
    "matched": ("capitals matched", "-."),
    "matched_words": ("n-grams, capitals matched", (0, (1, 3))),
}


def curves_by_layer(
    table: pd.DataFrame, estimator: str, *, label: str, controls: pd.DataFrame | None = None
) -> Figure:
    """Return values over checkpoints: a line per layer, a panel per dimension (Figures 2, 8–12).

    Args:
        table: Rows of :data:`lm_eval_trust.analysis.tables.COLUMNS`.
        estimator: The estimator shown.
        label: Label of the vertical axis.
        controls: Black lines: what a probe has to exceed, as
            :func:`lm_eval_trust.analysis.probe_summary.probe_summary` gives it.
    """
    chosen = _rows(table, estimator)
    with _panels(sorted(chosen["dimension"].unique())) as (figure, panels):
        for dimension, axes in panels.items():
            of_dimension = chosen[chosen["dimension"] == dimension]
            checkpoints = _checkpoints(of_dimension)
            for (layer, rows), (colour, marker) in zip(
                of_dimension.groupby("layer"), looks(), strict=False
            ):
                ordered = _with_places(rows, checkpoints)
                places = ordered["place"]
                axes.plot(places, ordered["value"], color=colour, marker=marker, label=layer)
                if ordered["low"].notna().all():
                    axes.fill_between(
                        places, ordered["low"], ordered["high"], color=colour, alpha=0.12, lw=0
                    )
            if controls is not None:
                of_control = controls[controls["dimension"] == dimension]
                _draw_controls(axes, _with_places(of_control, checkpoints))
            _set_axis(axes, of_dimension)
            axes.set_title(dimension)
            axes.set_ylabel(label)
        _share_legend(figure, panels, "block")
    return figure


def _draw_controls(axes: Axes, ordered: pd.DataFrame) -> None:
    for name, (label, style) in _CONTROLS.items():
        if ordered[name].notna().any():
            if name == "untrained" and ordered["untrained_model"].iloc[0].startswith(FIRST):
                label = FIRST
            # A line needs two ends; with one checkpoint they stand on either side of it.
            places = ordered["place"].to_numpy() if len(ordered) > 1 else np.array([-0.4, 0.4])
            values = np.broadcast_to(ordered[name].to_numpy(dtype=float), places.shape)
            axes.plot(places, values, color="black", ls=style, lw=0.9, label=label)


def layer_heatmap(table: pd.DataFrame, estimator: str, *, label: str) -> Figure:
    """Return a measurement as layers × checkpoints, a panel per dimension."""
    chosen = _rows(table, estimator)
    low, high = float(chosen["value"].min()), float(chosen["value"].max())
    with _panels(sorted(chosen["dimension"].unique())) as (figure, panels):
        for dimension, axes in panels.items():
            of_dimension = chosen[chosen["dimension"] == dimension]
            grid = of_dimension.pivot_table(index="layer", columns="checkpoint", values="value")
            grid = grid[_checkpoints(of_dimension)["checkpoint"]]
            image = _blocks_heatmap(axes, grid, low, high, dimension)
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
            _set_axis(axes, of_dimension, shaded=False)
        figure.colorbar(image, ax=list(panels.values()), label=label, shrink=0.8)
    return figure


def information_curves(
    table: pd.DataFrame, estimator: str, phases: pd.DataFrame | None = None
) -> Figure:
    """Return I(T, X) and I(T, Y) over checkpoints by layer, null bands grey (Figures 7, 13–17).

    Markers show where p, corrected for layers, checkpoints and dimensions, is at most 0.05; dotted
    lines where I(T, X) of a block turns from fitting to compression.

    Args:
        table: With the estimators ``<estimator>_tx`` and ``<estimator>_ty``, whose ``low`` and
            ``high`` are the null's mean and 95 % quantile.
        estimator: Name of an estimator, e.g. ``nhsic``.
        phases: Rows with ``dimension``, ``layer``, ``verdict`` and ``turn``.
    """
    turns = {}
    if phases is not None and not phases.empty:
        shown = phases[phases["verdict"] == BOTH]
        turns = shown.set_index(["dimension", "layer"])["turn"].to_dict()
    sides = {f"{estimator}_tx": "I(T,X)", f"{estimator}_ty": "I(T,Y)"}
    dimensions = sorted(_rows(table, f"{estimator}_ty")["dimension"].unique())
    with new_figure(2 * COLUMN, 1.5 * len(dimensions) + 0.5) as figure:
        grid = figure.subplots(len(dimensions), 2, squeeze=False)
        for row, dimension in zip(grid, dimensions, strict=True):
            of_dimension = table[(table["dimension"] == dimension) & table["estimator"].isin(sides)]
            checkpoints = _checkpoints(of_dimension)
            for axes, (side, name) in zip(row, sides.items(), strict=True):
                chosen = of_dimension[of_dimension["estimator"] == side]
                if chosen.empty:
                    axes.set_axis_off()
                    continue
                for (layer, rows), (colour, marker) in zip(
                    chosen.groupby("layer"), looks(), strict=False
                ):
                    ordered = _with_places(rows, checkpoints)
                    places = ordered["place"]
                    axes.fill_between(
                        places, ordered["low"], ordered["high"], color="#999999", alpha=0.25, lw=0
                    )
                    axes.plot(
                        places,
                        ordered["value"],
                        color=colour,
                        marker=marker,
                        markevery=list(np.flatnonzero(ordered["p_corrected"] <= _LEVEL)),
                        label=layer,
                    )
                    if name == "I(T,X)" and (dimension, layer) in turns:
                        at_turn = ordered[ordered["step"] == turns[dimension, layer]]
                        axes.axvline(float(at_turn["place"].iloc[0]), color=colour, ls=":")
                _set_axis(axes, of_dimension)
                axes.set_ylabel(f"{name} ({estimator})")
                axes.set_title(_with_smallest_p(dimension, chosen))
        handles, names = grid[0][1].get_legend_handles_labels()
        figure.legend(handles, names, title="block", loc="outside right center")
        figure.supxlabel(f"marked: p ≤ {_LEVEL:g}, corrected", size=7)
    return figure


def _with_smallest_p(title: str, rows: pd.DataFrame) -> str:
    """Add the smallest p that can be reached, and the corrected one of a single finding."""
    smallest, alone = rows["p_smallest"].max(), rows["p_alone"].max()
    if np.isnan(smallest):
        return title
    corrected = "" if np.isnan(alone) else f", if alone {alone:.2g} corrected"
    return f"{title} (p ≥ {smallest:.2g}{corrected})"


def information_plane(table: pd.DataFrame, estimator: str) -> Figure:
    """Return I(T, Y) against I(T, X), a path over checkpoints for each layer."""
    sides = [_rows(table, f"{estimator}_{side}") for side in ("tx", "ty")]
    keys = ["checkpoint", "step", "dimension", "layer"]
    joined = sides[0].merge(sides[1], on=keys, suffixes=("_x", "_y"))
    with _panels(sorted(joined["dimension"].unique())) as (figure, panels):
        for dimension, axes in panels.items():
            of_dimension = joined[joined["dimension"] == dimension]
            for (layer, rows), (colour, _) in zip(
                of_dimension.groupby("layer"), looks(), strict=False
            ):
                ordered = rows.sort_values(_PLACES, na_position="first")
                axes.plot(ordered["value_x"], ordered["value_y"], color=colour, label=layer)
                axes.plot(*ordered[["value_x", "value_y"]].iloc[0], "o", color=colour)
                axes.plot(*ordered[["value_x", "value_y"]].iloc[-1], ">", color=colour)
            axes.set_title(dimension)
            axes.set_xlabel("I(T,X)")
            axes.set_ylabel("I(T,Y)")
        _share_legend(figure, panels, "block (○ first, ▷ last)")
    return figure


def strength_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a score and perplexity against α, a panel per vector (Figure 4).

    Args:
        rows: With ``vector``, ``alpha``, ``metric``, ``value``, ``perplexity``.
    """
    table = pd.DataFrame(rows)
    with _panels(list(dict.fromkeys(table["vector"]))) as (figure, panels):
        for vector, axes in panels.items():
            chosen = table[table["vector"] == vector].sort_values("alpha")
            axes.plot(chosen["alpha"], chosen["value"], color=COLOURS[0], marker="o")
            axes.set_xlabel("α")
            axes.set_ylabel(chosen["metric"].iloc[0].replace("_", " "), color=COLOURS[0])
            axes.set_title(vector)
            other = axes.twinx()
            other.plot(chosen["alpha"], chosen["perplexity"], color=COLOURS[1], marker="s", ls="--")
            other.set_yscale("log")
            other.set_ylabel("perplexity", color=COLOURS[1])
            other.grid(False)
    return figure


def configuration_heatmap(table: pd.DataFrame, column: str, *, label: str) -> Figure:
    """Return a column as layers × α, a panel for each vector and kind of positions.

    Args:
        table: With ``vector``, ``positions``, ``layer``, ``alpha`` and the column.
        column: The column shown.
        label: Its name in the figure.
    """
    named = table.assign(panel=table["vector"] + ", " + table["positions"])
    low, high = float(named[column].min()), float(named[column].max())
    with _panels(list(dict.fromkeys(named["panel"]))) as (figure, panels):
        for name, axes in panels.items():
            chosen = named[named["panel"] == name]
            grid = chosen.pivot_table(index="layer", columns="alpha", values=column, sort=False)
            grid = grid.reindex(columns=sorted(grid.columns))
            image = _blocks_heatmap(axes, grid, low, high, name)
            axes.set_xlabel("α")
            axes.set_xticks(range(len(grid.columns)), [f"{alpha:g}" for alpha in grid.columns])
        figure.colorbar(image, ax=list(panels.values()), label=label, shrink=0.8)
    return figure


def correlation_scatter(rows: Sequence[Mapping[str, Any]], *, x: str, y: str) -> Figure:
    """Return scores against probe accuracy, with a panel per dimension (Figure 5).

    Args:
        rows: With ``dimension``, ``checkpoint`` and the columns named by ``x`` and ``y``.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
    """
    table = pd.DataFrame(rows)
    with _panels(list(dict.fromkeys(table["dimension"]))) as (figure, panels):
        for dimension, axes in panels.items():
            chosen = table[table["dimension"] == dimension]
            order = np.arange(len(chosen))
            axes.plot(chosen[x], chosen[y], color="#BBBBBB", lw=0.6)
            axes.scatter(chosen[x], chosen[y], c=order, cmap="viridis", s=14, zorder=3)
            axes.set_title(dimension)
            axes.set_xlabel(x.replace("_", " "))
            axes.set_ylabel(y.replace("_", " "))
    return figure


def probe_matrix_heatmap(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return correlations of innovations, probes × benchmarks, with corrected p in each cell.

    Args:
        rows: With ``probe``, ``benchmark``, ``innovations`` and ``p_corrected``, NaN where they are
            undefined, and ``tetrad`` and ``tetrad_p``, of which the last row's are those of all
            own pairs.
    """
    *cells, overall = rows
    table = pd.DataFrame(cells)
    grids = {
        name: table.pivot_table(
            index="probe", columns="benchmark", values=name, dropna=False, sort=False
        )
        for name in ("innovations", "p_corrected")
    }
    values, p_values = (grids[name].to_numpy() for name in ("innovations", "p_corrected"))
    lines, columns = values.shape
    with new_figure(1.6 + 0.75 * columns, 1.1 + 0.4 * lines, framed=True) as figure:
        axes = figure.subplots()
        image = axes.imshow(values, aspect="auto", cmap="PuOr", vmin=-1, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}\np {p_values[i, j]:.2g}"
            dark = abs(value) > 0.7
            axes.text(j, i, text, ha="center", va="center", size=6, color="w" if dark else "k")
        axes.set_xticks(range(columns), grids["p_corrected"].columns, rotation=30, ha="right")
        axes.set_yticks(range(lines), grids["p_corrected"].index)
        axes.set_xlabel("benchmark")
        axes.set_ylabel("probe")
        title = "p corrected for all cells (Holm)"
        if not np.isnan(overall["tetrad_p"]):
            title += "\nmean tetrad {tetrad:+.2f}, p {tetrad_p:.2g}".format(**overall)
        axes.set_title(title, size=7)
        figure.colorbar(image, label="correlation of innovations")
    return figure


def abilities_radar(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Return abilities of several models, 0 to 1, on one radar (Figure 6).

    Args:
        rows: Model → ability → value.

    Raises:
        InputError: Models with different abilities, or fewer than three.
    """
    abilities = list(next(iter(rows.values()), {}))
    if len(abilities) < 3 or any(list(values) != abilities for values in rows.values()):
        raise InputError("A radar needs the same three or more abilities for each model.")
    angles = np.linspace(0, 2 * np.pi, len(abilities), endpoint=False)
    closed = np.append(angles, angles[0])
    with new_figure(COLUMN, 0.9 * COLUMN + 0.2 * len(rows)) as figure:
        axes = figure.add_subplot(projection="polar")
        for (model, values), (colour, marker) in zip(rows.items(), looks(), strict=False):
            points = [values[ability] for ability in abilities]
            axes.plot(closed, [*points, points[0]], color=colour, marker=marker, label=model)
        axes.set_xticks(angles, abilities)
        axes.tick_params(axis="x", pad=9)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0])
        figure.legend(loc="outside lower center")
    return figure


def proxy_bars(
    original: Mapping[str, float], tuned: Mapping[str, float], lines: Mapping[str, float]
) -> Figure:
    """Return F1 of checkpoints as they are and proxy-tuned, other models as lines (Figure 18).

    Args:
        original: Checkpoint → F1.
        tuned: Checkpoint → F1 after proxy-tuning.
        lines: Model → F1.
    """
    places = np.arange(len(original))
    with new_figure(COLUMN, 0.75 * COLUMN) as figure:
        axes = figure.subplots()
        axes.bar(places - 0.2, list(original.values()), 0.38, color=COLOURS[5], label="original")
        heights = [tuned[name] for name in original]
        axes.bar(places + 0.2, heights, 0.38, color=COLOURS[0], label="proxy-tuned")
        for (model, value), colour, style in zip(
            lines.items(), COLOURS[1:], cycle(("--", ":")), strict=False
        ):
            axes.axhline(value, color=colour, ls=style, label=model)
        axes.set_xticks(places, list(original))
        axes.set_ylabel("F1")
        axes.set_ylim(0, 1.05)
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def _rows(table: pd.DataFrame, estimator: str) -> pd.DataFrame:
    chosen = table[table["estimator"] == estimator]
    if chosen.empty:
        known = ", ".join(sorted(table["estimator"].unique())) or "none"
        raise InputError(f"The table holds no {estimator}; it holds {known}.")
    return chosen


@contextmanager
def _panels(names: Sequence[str]) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Yield a figure with a panel for each name: one column wide for one, otherwise two."""
    columns = 1 if len(names) == 1 else 2
    lines = -(-len(names) // columns)
    with new_figure(COLUMN * columns, 1.9 * lines + 0.3) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(names) :]:
            axes.remove()
        yield figure, dict(zip(names, grid, strict=False))


def _blocks_heatmap(
    axes: Axes, grid: pd.DataFrame, low: float, high: float, title: str
) -> AxesImage:
    """Draw values by decoder block (the index) on one panel."""
    image = axes.imshow(
        grid.to_numpy(), aspect="auto", origin="lower", cmap="cividis", vmin=low, vmax=high
    )
    axes.grid(False)
    axes.set_title(title)
    axes.set_ylabel("block")
    axes.set_yticks(range(len(grid.index)), grid.index)
    return image


def checkpoint_axis(axes: Axes, rows: pd.DataFrame, *, shaded: bool = True) -> None:
    """Label checkpoints, evenly spaced, by step, as many as fit; mark their stages.

    Args:
        axes: Whose horizontal axis has a place for each checkpoint.
        rows: With ``step`` and, if there are stages, ``stage``.
        shaded: Shade every other stage, where no image lies below.
    """
    steps, stages = sorted(rows["step"].unique()), stages_by_step(rows)
    shown = range(0, len(steps), max(1, -(-len(steps) // 6)))
    axes.set_xticks(list(shown), [f"{int(steps[i]):,}" for i in shown])
    axes.set_xlabel("step, all stages" if stages else "step")
    draw_stages(axes, stages, shaded=shaded)


def _set_axis(axes: Axes, rows: pd.DataFrame, *, shaded: bool = True) -> None:
    """Label checkpoints by step, or by name if several models have the same step."""
    places = _checkpoints(rows)
    if places["step"].is_unique and places["step"].notna().all():
        checkpoint_axis(axes, rows, shaded=shaded)
    else:
        axes.set_xticks(range(len(places)), places["checkpoint"], rotation=30, ha="right")
        axes.set_xlabel("checkpoint")


def _share_legend(figure: Figure, panels: Mapping[str, Axes], title: str) -> None:
    shown: dict[str, Any] = {}
    for axes in panels.values():
        handles, names = axes.get_legend_handles_labels()
        shown = dict(zip(names, handles, strict=True)) | shown
    figure.legend(list(shown.values()), list(shown), title=title, loc="outside right upper")

"""Figures: what they show, that they are written alike each time, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lm_eval_trust.analysis import figures
from lm_eval_trust.analysis.phases import BOTH, UNDECIDED
from lm_eval_trust.analysis.tables import Measurement, as_table
from lm_eval_trust.core.errors import InputError

STEPS = (0, 1, 4, 16, 64, 256)


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for dimension in ("fairness", "privacy", "reliability"):
        for layer in (0, 2, 3):
            for number, step in enumerate(STEPS):
                for estimator in ("probe_accuracy", "nhsic_tx", "nhsic_ty"):
                    value = 0.5 + 0.08 * number + 0.01 * layer
                    rows.append(
                        Measurement(
                            f"ckpt_{number:03d}",
                            step,
                            512 * step,
                            dimension,
                            layer,
                            estimator,
                            value,
                            value - 0.05,
                            value + 0.05,
                            100,
                        )
                    )
    return as_table(rows)


def test_a_line_for_each_layer_and_a_panel_for_each_dimension(table: pd.DataFrame) -> None:
    figure = figures.curves_by_layer(table, "probe_accuracy", label="accuracy")
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["fairness", "privacy", "reliability"]
    for axes in panels:
        assert [line.get_label() for line in axes.lines] == ["0", "2", "3"]
        assert axes.lines[1].get_ydata() == pytest.approx(0.52 + 0.08 * np.arange(6))


def test_controls_are_black_lines_where_there_are_any(table: pd.DataFrame) -> None:
    controls = pd.DataFrame(
        {
            "dimension": ["privacy"] * 6,
            "checkpoint": [f"ckpt_{number:03d}" for number in range(6)],
            "step": STEPS,
            "words": [0.7] * 6,
            "untrained": [0.55] * 6,
            "untrained_model": ["untrained"] * 6,
            "matched": [np.nan] * 6,
            "matched_words": [np.nan] * 6,
        }
    )
    figure = figures.curves_by_layer(table, "probe_accuracy", label="accuracy", controls=controls)
    assert [len(axes.lines) for axes in figure.axes] == [3, 5, 3]
    words = figure.axes[1].lines[3]
    assert (words.get_label(), words.get_color()) == ("n-grams", "black")
    assert words.get_ydata() == pytest.approx([0.7] * 6)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(legend) == {"0", "2", "3", "n-grams", "untrained"}
    last = table[table["step"] == STEPS[-1]]
    one = figures.curves_by_layer(last, "probe_accuracy", label="accuracy", controls=controls[-1:])
    assert len(one.axes[1].lines[3].get_xdata()) == 2


def test_blocks_of_some_checkpoints_stand_at_these(table: pd.DataFrame) -> None:
    later = table[(table["layer"] < 3) | (table["step"] >= 16)]
    for figure in (
        figures.curves_by_layer(later, "probe_accuracy", label="accuracy"),
        figures.information_curves(later, "nhsic"),
    ):
        places = [list(line.get_xdata()) for line in figure.axes[0].lines]
        assert places == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [3, 4, 5]]


def test_a_first_checkpoint_is_not_called_untrained(table: pd.DataFrame) -> None:
    controls = pd.DataFrame(
        {
            "dimension": ["privacy"] * 6,
            "checkpoint": [f"ckpt_{number:03d}" for number in range(6)],
            "step": STEPS,
            "words": [np.nan] * 6,
            "untrained": [0.55] * 6,
            "untrained_model": ["first checkpoint ckpt_000"] * 6,
            "matched": [np.nan] * 6,
            "matched_words": [np.nan] * 6,
        }
    )
    figure = figures.curves_by_layer(table, "probe_accuracy", label="accuracy", controls=controls)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(legend) == {"0", "2", "3", "first checkpoint"}


def test_models_of_one_step_stand_side_by_side_by_name(table: pd.DataFrame) -> None:
    models = table[table["step"].isin(STEPS[:3])].assign(step=0)
    heat = figures.layer_heatmap(models, "probe_accuracy", label="accuracy").axes[0]
    lines = figures.curves_by_layer(models, "probe_accuracy", label="accuracy").axes[0]
    assert heat.images[0].get_array().shape == (3, 3)
    for axes in (heat, lines):
        names = [text.get_text() for text in axes.get_xticklabels()]
        assert names == ["ckpt_000", "ckpt_001", "ckpt_002"]
        assert axes.get_xlabel() == "checkpoint"


def test_markers_stand_where_the_corrected_p_is_small(table: pd.DataFrame) -> None:
    table["p_smallest"], table["p_alone"] = 0.005, 0.06
    table["p_corrected"] = np.where(table["step"] >= 16, 0.04, 0.06)
    axes = figures.information_curves(table, "nhsic").axes[0]
    assert axes.lines[0].get_markevery() == [3, 4, 5]
    assert axes.get_title() == "fairness (p ≥ 0.005, if alone 0.06 corrected)"


def test_a_heat_map_has_layers_up_and_checkpoints_across(table: pd.DataFrame) -> None:
    figure = figures.layer_heatmap(table, "probe_accuracy", label="accuracy")
    grid = figure.axes[0].images[0].get_array()
    assert grid.shape == (3, 6)
    assert grid[2, 5] == pytest.approx(0.5 + 0.4 + 0.03)


def test_information_is_drawn_with_its_null_band(table: pd.DataFrame) -> None:
    figure = figures.information_curves(table, "nhsic")
    assert len(figure.axes) == 6
    assert len(figure.axes[0].lines) == len(figure.axes[0].collections) == 3
    assert len(figures.information_plane(table, "nhsic").axes) == 3


def test_a_turn_that_is_shown_is_marked(table: pd.DataFrame) -> None:
    keys = table[["dimension", "layer"]].drop_duplicates().head(2)
    phases = keys.assign(verdict=[BOTH, UNDECIDED], turn=sorted(table["step"].unique())[2])
    figure = figures.information_curves(table, "nhsic", phases)
    assert len(figure.axes[0].lines) + len(figure.axes[2].lines) == 3 + 3 + 1
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert [list(mark.get_xdata()) for mark in marks] == [[2, 2]]


def test_probes_and_benchmarks_are_a_matrix_with_what_is_undefined_left_out() -> None:
    rows = [
        {"probe": a, "benchmark": b, "innovations": value, "p": 0.0, "p_corrected": p}
        | {"tetrad": 0.1, "tetrad_p": 1}
        for a, b, value, p in (
            ("one", "one", 0.8, 0.01),
            ("one", "two", -0.2, 0.4),
            ("two", "one", np.nan, np.nan),
            ("two", "two", np.nan, np.nan),
            ("all", "all", np.nan, np.nan),
        )
    ]
    axes = figures.probe_matrix_heatmap(rows).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.80\np 0.01", "-0.20\np 0.4", "–", "–"]
    assert axes.images[0].get_array()[0, 1] == -0.2
    assert axes.get_title() == "p corrected for all cells (Holm)\nmean tetrad +0.10, p 1"


@pytest.mark.slow
def test_every_figure_is_written_in_three_formats_and_alike(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    made = {
        "curves": lambda: figures.curves_by_layer(table, "probe_accuracy", label="accuracy"),
        "strength": lambda: figures.strength_curves(
            [
                {"vector": v, "alpha": a, "metric": "truth_info", "value": a, "perplexity": 2**a}
                for v in ("one", "two")
                for a in (0.0, 1.0, 2.0)
            ]
        ),
        "correlation": lambda: figures.correlation_scatter(
            [
                {"dimension": "privacy", "checkpoint": c, "probe_accuracy": c, "score": c**2}
                for c in range(5)
            ],
            x="probe_accuracy",
            y="score",
        ),
        "radar": lambda: figures.abilities_radar(
            {m: {"a": 0.2, "b": 0.9, "c": 0.5, "d": 1.0} for m in ("chat", "chat + v")}
        ),
        "proxy": lambda: figures.proxy_bars(
            {"ckpt_009": 0.1, "ckpt_010": 0.3}, {"ckpt_009": 0.5, "ckpt_010": 0.6}, {"chat": 0.9}
        ),
    }
    for name, draw in made.items():
        paths = figures.save_figure(draw(), tmp_path / "one", name)
        again = figures.save_figure(draw(), tmp_path / "two", name)
        assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
        assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
        with Image.open(paths[0]) as image:
            assert image.width >= figures.COLUMN * 300 * 0.95


def test_what_cannot_be_drawn_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no hsic_ty; it holds nhsic_tx"):
        figures.information_curves(table, "hsic")
    with pytest.raises(InputError, match="three or more"):
        figures.abilities_radar({"chat": {"a": 1.0, "b": 0.5}})
    with pytest.raises(InputError, match="same"):
        figures.abilities_radar({"x": {"a": 1, "b": 1, "c": 1}, "y": {"a": 1, "b": 1, "d": 1}})

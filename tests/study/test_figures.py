"""The figures of studies show every value where there is room, and stay of one size where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lm_eval_trust.study.figures import score_curves, transfer_heatmap


@pytest.mark.parametrize(("sources", "written"), [(3, 5), (360, 0)])
def test_a_heat_map_writes_its_values_where_they_fit(sources: int, written: int) -> None:
    values = np.linspace(0, 1, 2 * sources).reshape(sources, 2)
    values[0, 0] = np.nan
    names = [f"ckpt_{i:03d}" for i in range(sources)]
    figure = transfer_heatmap(pd.DataFrame(values, names, ["chat", "base"]), label="score")
    axes = figure.axes[0]
    assert len(axes.texts) == written
    assert [label.get_text() for label in axes.get_xticklabels()] == ["chat", "base"]
    assert axes.get_yticklabels()[0].get_text() == "ckpt_000"
    assert figure.get_figheight() < 10


def test_curves_show_the_mean_over_seeds_at_each_step() -> None:
    rows = pd.DataFrame(
        [("t", 0, 0.1, 0.0), ("t", 0, 0.3, 0.0), ("t", 8, 0.5, 0.0), ("u", 8, 0.9, 0.0)],
        columns=["task", "step", "value", "stderr"],
    )
    axes = score_curves(rows).axes[0]
    lines = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    assert list(lines["t"].get_ydata()) == pytest.approx([0.2, 0.5])
    assert list(lines["u"].get_xdata()) == [1]

"""Points of studies become tested series and a matrix of probes × benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lm_eval_trust.analysis.correlation import correlate_over_steps
from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.study.correlations import (
    ALL,
    correlation_points,
    correlation_rows,
    matrix_rows,
    pair_row,
    probes_of,
    series_matrices,
)

STEPS = [20 * i for i in range(18)]
TASKS = {"reliability": "trust_truthfulqa", "toxicity": "trust_toxigen"}


def measured() -> dict[int, list[Measurement]]:
    random = np.random.default_rng(0)
    return {
        0: [
            Measurement(
                f"ckpt_{step:03}", step, 0, name, 3, "probe_accuracy", 0.5 + step / 900 + e, 0, 1, 9
            )
            for name in (*TASKS, "privacy")
            for step, e in zip(STEPS, 0.03 * random.normal(size=18), strict=True)
        ]
    }


def scores() -> pd.DataFrame:
    """A target steered by each checkpoint, whose scores repeat the probe's noise."""
    probes = {(m.dimension, m.step): m.value for m in measured()[0]}
    rows = [
        {
            "evaluation": name,
            "task": task,
            "alpha": 1.0,
            "seed": 0,
            "model": "chat",
            "step": None,
            "source": f"ckpt_{step:03}",
            "source_step": step,
            "dimension": name,
            "layer": "3",
            "value": probes[name, step] / 2,
        }
        for name, task in TASKS.items()
        for step in STEPS
    ]
    # A vector of a model that is no checkpoint has no place among them.
    return pd.DataFrame([*rows, {**rows[0], "source": "ckpt_000", "source_step": None}])


def test_a_study_s_series_are_tested_and_controlled() -> None:
    probes = probes_of(measured())
    points = pd.DataFrame(correlation_points(scores(), probes))
    assert len(points) == 36 and set(points["target"]) == {"chat"}
    rows = correlation_rows(points, ["dimension", "target"])
    assert [row["checkpoints"] for row in rows] == [18, 18]
    assert all(row["p"] < 0.01 and row["p_corrected"] >= row["p"] for row in rows)
    ((series, matrix),) = series_matrices(points, probes)
    assert series["layer"] == "3" and series["steered"]
    assert [(row["probe"], row["benchmark"]) for row in matrix[:2]] == [
        ("privacy", "reliability"),
        ("privacy", "toxicity"),
    ]
    assert len(matrix) == 3 * 2 + 1
    own = [row for row in matrix if row["probe"] == row["benchmark"] != ALL]
    assert all(row["contrast"] > 0.4 and row["contrast_p"] < 0.05 for row in own)
    assert matrix[-1]["probe"] == ALL and matrix[-1]["contrast_p"] < 0.05
    control = next(row for row in matrix if row["probe"] == "privacy")
    assert math.isnan(control["contrast"]) and math.isnan(control["p_corrected"])


def test_a_row_holds_what_the_test_gives_or_why_there_is_none() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 18))
    row, found = pair_row(STEPS, list(x), list(y)), correlate_over_steps(STEPS, x, y)
    assert (row["p"], row["innovations"], row["note"]) == (found.p, found.innovations, "")
    constant = pair_row(STEPS, list(x), [0.5] * 18)
    assert math.isnan(constant["p"]) and math.isnan(constant["pearson"])
    assert "y is the same" in constant["note"]
    few = pair_row(STEPS[:4], [1, 2, 3, 5], [2, 4, 6, 10])
    assert few["pearson"] == pytest.approx(1) and math.isnan(few["p"])
    assert matrix_rows(STEPS[:4], {"a": [1, 2, 3, 4]}, {"a": [1, 2, 3, 4]}) == []


def test_p_is_corrected_for_the_series_that_have_one() -> None:
    random = np.random.default_rng(1)
    points = pd.DataFrame(
        {"name": name, "step": step, "probe": random.normal(), "score": random.normal()}
        for name in "abc"
        for step in STEPS
    )
    points.loc[points["name"] == "c", "score"] = 0.5
    a, b, c = correlation_rows(points, ["name"])
    first, second = sorted((a, b), key=lambda row: row["p"])
    assert first["p_corrected"] == pytest.approx(min(1, 2 * first["p"]))
    assert second["p_corrected"] == pytest.approx(max(first["p_corrected"], second["p"]))
    assert math.isnan(c["p_corrected"])

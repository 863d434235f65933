"""Points of studies become tested series and a matrix of probes × benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lm_eval_trust.analysis.comparison import holm
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
            "action": "add",
            "proxy": None,
            "adapter": None,
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
    assert all(row["contrast"] > 0.4 and row["tetrad_p_corrected"] < 0.05 for row in own)
    assert matrix[-1]["probe"] == ALL and matrix[-1]["tetrad_p"] < 0.05
    control = next(row for row in matrix if row["probe"] == "privacy")
    assert math.isnan(control["contrast"]) and math.isnan(control["tetrad_p_corrected"])
    assert math.isnan(matrix[-1]["p_corrected"])
    assert [row["p_corrected"] for row in matrix[:-1]] == holm([row["p"] for row in matrix[:-1]])
    assert {row["smallest_p_corrected"] for row in matrix[:-1]} == {6 / 2001}
    assert {row["task"] for row in matrix if row["benchmark"] == "toxicity"} == {"trust_toxigen"}


def matrices(table: pd.DataFrame) -> dict[str, dict[tuple[str, str], float]]:
    """The Pearson coefficients of each series' cells, by its entries."""
    probes = probes_of(measured())
    points = pd.DataFrame(correlation_points(table, probes))
    return {
        series["evaluation"]: {(row["probe"], row["benchmark"]): row["pearson"] for row in rows}
        for series, rows in series_matrices(points, probes)
    }


def test_a_benchmark_is_a_task_of_its_dimension() -> None:
    # Toxicity's task comes first by name and has more checkpoints than some forms of the other.
    table = scores()
    own = table[table["dimension"] == "reliability"].assign(evaluation="all")
    noise = np.random.default_rng(3).normal(size=len(own))
    other = own.assign(task="trust_toxigen", value=noise)
    few = own.iloc[:13].assign(task="trust_truthfulqa_binary", value=noise[:13])
    found = matrices(pd.concat([other, few, own], ignore_index=True))
    assert set(found) == {"all"} and {pair[1] for pair in found["all"]} == {"reliability", ALL}
    assert found["all"]["reliability", "reliability"] == pytest.approx(1)


def test_entries_and_actions_that_overlap_are_series_of_their_own() -> None:
    table = scores()
    erased = table.assign(value=0.5)
    assert set(matrices(pd.concat([table, erased.assign(action="erase")]))) == {
        "reliability+toxicity"
    }
    again = table[table["dimension"] == "reliability"].assign(evaluation="again")
    again["value"] = np.random.default_rng(4).normal(size=len(again))
    found = matrices(pd.concat([again, table], ignore_index=True))
    assert set(found) == {"again", "reliability", "toxicity"}
    assert abs(found["again"]["reliability", "reliability"]) < 0.9
    assert found["reliability"]["reliability", "reliability"] == pytest.approx(1)


def as_they_are() -> pd.DataFrame:
    table = scores().iloc[:-1].assign(evaluation="as-they-are", alpha=0.0, action=None)
    table["model"], table["step"] = table["source"], table["source_step"]
    return table.assign(source=None, source_step=None, dimension=None, layer=None)


@pytest.mark.parametrize("column", ["proxy", "adapter"])
def test_checkpoints_with_a_proxy_or_an_adapter_are_none(column: str) -> None:
    table = as_they_are()
    changed = table.assign(evaluation="a-changed", value=0.5)
    changed[column] = "mini-chat"
    found = matrices(pd.concat([changed, table], ignore_index=True))
    assert found == matrices(table) and set(found) == {"as-they-are"}


def test_what_a_matrix_is_without_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    table = scores().assign(evaluation="e")
    toxicity, late = table["dimension"] == "toxicity", table["source_step"] >= STEPS[3]
    short = table[~toxicity | ~late]
    found = matrices(pd.concat([short, short.assign(alpha=2.0)], ignore_index=True))
    assert {pair[1] for pair in found["e"]} == {"reliability", ALL}
    assert caplog.messages == [
        "e: toxicity has scores at 3 checkpoints only, so the matrix of probes and benchmarks is "
        "without its benchmark."
    ]
    caplog.clear()
    found = matrices(table[~toxicity | late])
    assert {pair[1] for pair in found["e"]} == {"reliability", "toxicity", ALL}
    (message,) = caplog.messages
    assert "the 15 checkpoints at which reliability, toxicity all have scores, of 18." in message


def test_checkpoints_of_one_step_have_no_order(caplog: pytest.LogCaptureFixture) -> None:
    table = scores().iloc[:-1].assign(evaluation="e")
    table["source_step"] = [40 * (step // 40) for step in table["source_step"]]
    assert matrices(table) == {}
    (message,) = caplog.messages
    assert "Several checkpoints have the same step" in message


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


def test_many_series_have_enough_permutations_for_a_corrected_p() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=18)
    points = pd.DataFrame(
        {"layer": layer, "step": step, "probe": e, "score": e / 2}
        for layer in range(51)
        for step, e in zip(STEPS, noise, strict=True)
    )
    rows = correlation_rows(points, ["layer"])
    assert {row["smallest_p"] for row in rows} == {1 / 2041}
    assert all(row["smallest_p_corrected"] == pytest.approx(51 / 2041) for row in rows)
    assert max(row["p_corrected"] for row in rows) <= 0.05

"""Sweeps, audits, probes and comparisons in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.boards import planted_board, planted_row, planted_run

import lm_eval_trust as let
from lm_eval_trust.analysis.comparison import compare as compare_values
from lm_eval_trust.api.comparison import ComparisonResult
from lm_eval_trust.cli import main

TASK = "trust_truthfulqa_mini"
AUDITED: dict[str, Any] = {
    "tasks": TASK,
    "suite": "trust_confaide_mini",
    "controls": "random:3",
    "limit": 4,
}


@pytest.fixture
def model(quick: None) -> let.Model:
    return let.load("mini-chat", device="cpu", batch_size=4)


@pytest.fixture
def name_vector(naming: Path) -> let.SteeringVector:
    """A vector that makes the quick model give an answer that is right most often."""
    return let.load_vector(naming)


def sweep_of(model: let.Model, vector: object, **settings: object) -> let.SweepResult:
    given = {"layers": 1, "alphas": [1, 4], "scale": "none", "limit": 12, "rounds": 0}
    free = {"metric": "info", "perplexity_ratio": 1e9}
    return let.sweep(model, vector, TASK, **{**given, **free, **settings})  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_sweep_is_that_of_the_command(model: let.Model, naming: Path, tmp_path: Path) -> None:
    before = model.generate("Q: who?", max_new_tokens=4)
    result = sweep_of(model, let.load_vector(naming), controls="random:3,sign")
    command = ["sweep", "--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"]
    command += ["--vector", str(naming), "--layers", "1", "--alphas", "1", "4", "--scale", "none"]
    command += ["--tasks", TASK, "--metric", "info", "--limit", "12", "--rounds", "0"]
    command += ["--perplexity-ratio", "1e9", "--controls", "random:3,sign", "--batch_size", "4"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    for name, ours in {
        "sweep": result.table,
        "test": result.test,
        "controls": result.controls,
    }.items():
        theirs = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        # A vector that is given in memory has a file of another name.
        same = [column for column in theirs if column != "vector"]
        assert list(theirs) == list(ours)
        pd.testing.assert_frame_equal(
            ours[same].astype(str).replace("None", "nan"),
            theirs[same].astype(ours[same].dtypes).astype(str),
        )
    assert result.chosen is not None
    # The model is as it was, and its own answers are not those of the sweep.
    assert not model.plan.steps
    assert model.generate("Q: who?", max_new_tokens=4) == before


@pytest.mark.slow
def test_a_sweeps_choice_steers_and_is_saved(
    model: let.Model, name_vector: let.SteeringVector, tmp_path: Path
) -> None:
    result = sweep_of(model, name_vector)
    with model.steer(result.plan):
        steered = let.evaluate(model, TASK, limit=12)
    chosen = result.test.set_index("task").loc[TASK, "steered"]
    assert steered.results[TASK]["info,none"] == pytest.approx(chosen) != 0
    saved = result.save(tmp_path / "kept")
    with model.steer(saved / "steering.yaml"):
        again = let.evaluate(model, TASK, limit=12)
    assert list(again.samples["answer"]) == list(steered.samples["answer"])
    with pytest.raises(let.InputError, match="empty"):
        result.save(saved)
    nothing = sweep_of(model, name_vector, alphas=[1e-4], limit=4)
    assert nothing.chosen is None and nothing.test.empty
    with pytest.raises(let.InputError, match="chose nothing"):
        _ = nothing.plan
    assert set(result.samples["alpha"]) == {0.0, 1.0, 4.0}
    assert "</table>" in result._repr_html_()
    assert json.loads(json.dumps(result.to_dict()))["chosen"]["layer"] == 1
    assert result.plot().get_xlabel() == "α"


@pytest.mark.slow
def test_an_audit_holds_a_sweeps_choice_against_controls(
    model: let.Model, name_vector: let.SteeringVector
) -> None:
    swept = sweep_of(model, name_vector)
    result = let.audit(
        model, swept, limit=6, tasks=TASK, suite="trust_confaide_mini", controls="random:3"
    )
    assert result.verdict in ("shown", "not shown", "harmful")
    assert result.to_dict()["tried"] == 2
    assert result.verdict == result.to_dict()["verdict"]
    assert {"unsteered", "random 1", "random 2", "random 3"} == set(result.controls["control"])
    assert result.page.read_text(encoding="utf-8").startswith("<!")
    assert not model.plan.steps


@pytest.mark.slow
def test_an_audit_takes_a_vector(
    model: let.Model, name_vector: let.SteeringVector, tmp_path: Path
) -> None:
    out = tmp_path / "audit"
    given = {**AUDITED, "layer": 1, "alpha": 8, "scale": "none"}
    result = let.audit(model, name_vector, out=out, **given)
    (step,) = result.to_dict()["provenance"]["steering"]["steps"]
    assert (step["layer"], step["alpha"]) == (1, 8.0)
    again = let.audit(model, name_vector, out=out, **given)
    pd.testing.assert_frame_equal(again.table, result.table)
    with pytest.raises(let.InputError, match="plan has no file"):
        let.audit(model, let.steering_plan(name_vector, scale="none"), **AUDITED)
    with pytest.raises(let.InputError, match="says everything"):
        let.audit(model, tmp_path / "x.yaml", **given)


def test_probes_of_several_checkpoints_stand_in_one_table(quick: None, tmp_path: Path) -> None:
    result = let.probe(
        ["mini@ckpt_002", "mini@ckpt_005"],
        "truthfulqa",
        layers=[0, 1],
        steps=[2, 12],
        samples=80,
        controls=2,
        progress=False,
        out=tmp_path,
    )
    assert list(zip(result.table["model"], result.table["layer"], strict=True)) == [
        (name, layer) for name in ("ckpt_002", "ckpt_005") for layer in (0, 1)
    ]
    assert (result.table["low"] <= result.table["accuracy"]).all()
    assert (result.table["selectivity"] == result.table["accuracy"] - result.table["control"]).all()
    written = pd.read_csv(tmp_path / "analysis" / "probes.csv")
    assert list(result.best["accuracy"]) == pytest.approx(list(written["accuracy"]))
    axes = result.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "ckpt_002",
        "ckpt_005",
        "majority",
    ]
    with pytest.raises(let.InputError, match="Did you mean 'reliability'"):
        result.plot(dimension="reliabilty")


def test_an_accurate_probe_is_found_where_it_was_planted(
    model: let.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer 1 tells the labels; layer 0 is noise."""

    def planted(model: object, tokenizer: object, texts: list[str], **given: object) -> object:
        import numpy as np

        random = np.random.default_rng(0)
        noise = random.normal(size=(len(texts), 2, 16)).astype(np.float32)
        noise[:, 1, 0] += 8 * np.array([label_of[text] for text in texts])
        return noise

    from lm_eval_trust.benchmarks.load import load_statements

    label_of = {s.text: s.label for s in load_statements("truthfulqa", data_source="mini").items}
    monkeypatch.setattr("lm_eval_trust.study.activation_sets.load_or_extract", planted)
    result = let.probe(model, "truthfulqa", layers=[0, 1], controls=3)
    accuracy = result.table.set_index("layer")["accuracy"]
    assert accuracy[1] > 0.98 > 0.7 > accuracy[0]
    assert result.best["layer"].item() == 1


def test_models_without_steps_stay_in_their_order(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    models = ["mini@ckpt_005", "mini@ckpt_002"]
    settings: dict[str, Any] = {"layers": [1], "controls": 1, "progress": False}
    result = let.probe(models, "truthfulqa", samples=80, **settings)
    assert (
        list(result.table["model"]) == list(result.best["checkpoint"]) == ["ckpt_005", "ckpt_002"]
    )
    assert result.best["step"].isna().all() and result.best["untrained"].isna().all()
    few = let.probe(models[0], "truthfulqa", samples=10, **settings)
    assert "no layer can be chosen" in caplog.text and "no layer" in repr(few)
    assert few.best.empty and len(few.table) == 1
    with pytest.raises(let.InputError, match="No probe can be fitted on 2 statements"):
        let.probe(models[0], "truthfulqa", samples=2, **settings)


def test_comparisons_are_paired_and_grouped(
    model: let.Model, name_vector: let.SteeringVector
) -> None:
    plain = let.evaluate(model, TASK, limit=20)
    with model.steer(name_vector, alpha=16, scale="none"):
        steered = let.evaluate(model, TASK, limit=20)
    result = let.compare({"as it is": plain, "steered": steered})
    values = [list(each.samples["truth_info"]) for each in (plain, steered)]
    expected = compare_values(*values, list(plain.samples["group"]))
    (row,) = result.table[result.table["metric"] == "truth_info"].to_dict("records")
    assert (row["first"], row["second"]) == ("as it is", "steered")
    assert row["difference"] == pytest.approx(expected.difference.mean)
    assert (row["low"], row["high"]) == pytest.approx(
        (expected.difference.low, expected.difference.high)
    )
    assert row["p"] == pytest.approx(expected.p)
    assert row["p_adjusted"] >= row["p"] - 0.01
    assert row["family"] == "primary"
    assert result.scores.loc["steered", "Truth*Info"] == pytest.approx(row["second_value"])
    assert result.plot().get_xlabel() == "steered − as it is"


@pytest.mark.parametrize(
    ("changed", "better"), [(5, ""), (20, "second")], ids=["p of 0.06", "p of 2e-6"]
)
def test_a_row_is_better_where_the_adjusted_p_shows_it(
    tmp_path: Path, changed: int, better: str
) -> None:
    def answers(until: int) -> Callable[[str, int], tuple[str, float]]:
        return lambda task, item: ("", float((item < until) == (task != "planted_toxic")))

    rows = [
        planted_row(name, planted_run(tmp_path / name, answers(until), 20))
        for name, until in (("first", 0), ("second", changed))
    ]
    table = ComparisonResult([planted_board(rows)], []).table
    assert set(table["better"]) == {better}
    assert ((table["p_adjusted"] < 0.05) == bool(better)).all()
    assert (table["low"] * table["high"] > 0).all()


def test_comparisons_are_saved_as_leaderboards(model: let.Model, tmp_path: Path) -> None:
    other = let.load("mini-safe", device="cpu", batch_size=4)
    results = [let.evaluate(each, TASK, limit=6) for each in (model, other)]
    page = let.compare(*results).save(tmp_path / "board")
    assert page.read_text(encoding="utf-8").startswith("<!")
    assert (tmp_path / "board" / "pairs.csv").is_file()
    for result in results:
        result.save(tmp_path / "runs")
    again = let.compare(tmp_path / "runs")
    assert set(again.scores.index) == {"mini-chat", "mini-safe"}


def test_what_cannot_be_compared_is_refused(model: let.Model) -> None:
    first, same = (let.evaluate(model, TASK, limit=4) for _ in range(2))
    with pytest.raises(let.InputError, match="nothing to compare"):
        let.compare(first, same)
    with pytest.raises(let.InputError, match="at least two"):
        let.compare(first)
    with pytest.raises(let.InputError, match="at least two"):
        let.compare(first, first)
    with pytest.raises(let.InputError, match="not an evaluation"):
        let.compare(first, model)  # type: ignore[arg-type]
    with pytest.raises(let.InputError, match="'all'"):
        let.compare(first, same, pairs="each")  # type: ignore[arg-type]
    other = let.evaluate(let.load("mini-safe", device="cpu"), "trust_world_choice_mini", limit=4)
    with pytest.raises(let.InputError, match="No two"):
        let.compare(first, other)
    with pytest.raises(let.InputError, match="Did you mean 'mini-safe'"):
        let.compare(first, other, reference="mini-saf")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": "x"}, "cannot be read"),
        ({"layers": 9}, "no layer 9"),
        ({"layers": []}, "name each once"),
        ({"alphas": [0]}, "0 only"),
        ({"search": "best"}, "search"),
        ({"metric": "truthy"}, "no metric"),
        ({"controls": "randm"}, "Did you mean 'random'"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_wrong_sweeps_are_refused(
    model: let.Model, naming: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        sweep_of(model, str(naming), **settings)
    assert not model.plan.steps


def test_steered_models_are_neither_swept_nor_probed_nor_built_from(
    model: let.Model, naming: Path
) -> None:
    with model.steer(naming, scale="none"):
        with pytest.raises(let.InputError, match="end it first"):
            sweep_of(model, str(naming))
        with pytest.raises(let.InputError, match="end it first"):
            let.probe(model, "truthfulqa", progress=False)
        with pytest.raises(let.InputError, match="end it first"):
            let.build_vector(model, "truthfulqa")
        with pytest.raises(let.InputError, match="end it first"):
            let.audit(model, naming, scale="none", tasks=TASK)


@pytest.mark.parametrize(
    ("models", "settings", "said"),
    [
        ([], {}, "at least one"),
        (["mini", "mini"], {}, "same name"),
        ({"untrained": "mini"}, {}, "name of the control"),
        ("mini", {"steps": [1, 2]}, "1 models and 2 steps"),
        ("mini", {"layers": 7}, "out of range"),
    ],
)
def test_wrong_probes_are_refused(
    quick: None, models: object, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        let.probe(models, "truthfulqa", progress=False, samples=60, **settings)  # type: ignore[arg-type]

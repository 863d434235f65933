"""Evaluations in Python: the command's figures, the leak guard, tables, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import pytest
from lm_eval.tasks import TaskManager
from support.leaderboard import plant

import lm_eval_trust as let
from lm_eval_trust.api.evaluation import EvaluationResult
from lm_eval_trust.core.saved_runs import find_runs
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.plugin import task_path

TASK = "trust_truthfulqa_mini"
CHOICES = "trust_world_choice_mini"


@pytest.fixture
def model(quick: None) -> let.Model:
    return let.load("mini-chat", device="cpu", batch_size=4)


@pytest.fixture
def truth(quick: None) -> let.SteeringVector:
    return let.build_vector("mini@ckpt_004", "truthfulqa", layers=1, progress=False)


def answers(result: let.EvaluationResult) -> list[str]:
    return list(result.samples["answer"])


def by_command(arguments: str, tasks: list[str], limit: int) -> dict[str, Any]:
    """Return what the harness itself finds."""
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model="steered_amber",
        model_args=arguments,
        tasks=tasks,
        limit=limit,
        batch_size=4,
        device="cpu",
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(task_path()), include_defaults=False),
    )
    return found


@pytest.mark.slow
def test_steered_figures_are_those_of_the_command_answer_by_answer(
    model: let.Model, truth: let.SteeringVector, tmp_path: Path
) -> None:
    truth.save(tmp_path / "v.safetensors")
    with model.steer(truth, layer=1, alpha=4):
        result = let.evaluate(model, [TASK, CHOICES], limit=6)
    steered = f"vector={tmp_path / 'v.safetensors'},layer=1,alpha=4"
    found = by_command(f"pretrained=mini-chat,dtype=float32,{steered}", [TASK, CHOICES], 6)
    assert result.fingerprint == found["config"]["trust_fingerprint"]
    assert result.steering["fingerprint"] == found["config"]["steering"]["fingerprint"]
    for task, samples in found["samples"].items():
        ours = result.run.samples(task)
        assert [s["doc_hash"] for s in ours] == [s["doc_hash"] for s in samples]
        for metric in samples[0]["metrics"]:
            assert [s[metric] for s in ours] == [s[metric] for s in samples], metric
    generated, chosen = found["samples"][TASK], found["samples"][CHOICES]
    assert [s["resps"] for s in result.run.samples(TASK)] == [s["resps"] for s in generated]
    assert [float(reply[0][0]) for s in result.run.samples(CHOICES) for reply in s["resps"]] == [
        reply[0][0] for s in chosen for reply in s["resps"]
    ]


@pytest.mark.slow
def test_strength_zero_is_unsteered_and_steering_ends(
    model: let.Model, truth: let.SteeringVector
) -> None:
    before = let.evaluate(model, TASK, limit=5)
    with model.steer(truth, alpha=0):
        zero = let.evaluate(model, TASK, limit=5)
    with model.steer(truth, alpha=8):
        steered = let.evaluate(model, TASK, limit=5)
    after = let.evaluate(model, TASK, limit=5)
    assert answers(before) == answers(zero) == answers(after) != answers(steered)
    assert before.fingerprint == zero.fingerprint == after.fingerprint != steered.fingerprint
    assert steered.steering["built_from"][0]["dimension"] == "reliability"
    assert not before.steering["steps"]


def test_items_that_a_vector_was_built_from_are_refused(
    model: let.Model, truth: let.SteeringVector
) -> None:
    other_split = {"split_seed": 1}
    with model.steer(truth), pytest.raises(let.LeakError, match="allow_leak"):
        let.evaluate(model, TASK, metadata=other_split)
    assert not model.plan.steps
    with model.steer(truth):
        leaked = let.evaluate(model, TASK, limit=8, metadata=other_split, allow_leak=True)
        with pytest.raises(let.LeakError):
            let.evaluate(model, TASK, metadata=other_split)
    assert leaked.to_dict()["config"]["allow_leak"] is True


def test_the_table_holds_the_harness_figures_and_their_intervals(model: let.Model) -> None:
    result = let.evaluate(model, [TASK, CHOICES], limit=6)
    table = result.table
    for row in table.to_dict("records"):
        assert result.results[row["task"]][f"{row['metric']},{row['filter']}"] == row["value"]
    means = result.samples.groupby("task")["acc"].mean()
    (accuracy,) = table[(table["task"] == CHOICES) & (table["metric"] == "acc")].to_dict("records")
    assert accuracy["value"] == means[CHOICES]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["items"] == 6
    assert len(result.samples) == 12
    assert set(result.scores["task"]) == {TASK, CHOICES}


def test_the_table_has_the_recorded_interval_of_a_score_that_is_no_mean(tmp_path: Path) -> None:
    figures = {"icat,none": 62.5, "icat_low,none": 50.0, "icat_high,none": 71.5}
    run = plant(tmp_path, {"stereo": [1.0, 0.0]}, results={"stereo": figures})
    (row,) = EvaluationResult(run).table.to_dict("records")
    assert (row["metric"], row["value"], row["low"], row["high"]) == ("icat", 62.5, 50.0, 71.5)


def test_saved_results_are_read_by_leaderboards_and_again(
    model: let.Model, truth: let.SteeringVector, tmp_path: Path
) -> None:
    plain = let.evaluate(model, TASK, limit=5, out=tmp_path)
    with model.steer(truth, alpha=6):
        steered = let.evaluate(model, TASK, limit=5)
    file = steered.save(tmp_path)
    assert steered.save(tmp_path) == file
    (board,) = build_boards(find_runs([tmp_path]))
    assert [row.name for row in board.rows] == [plain.name, steered.name]
    assert board.reference == plain.name == "mini-chat"
    again = {result.name: result for result in let.load_results(tmp_path)}
    pd.testing.assert_frame_equal(again[steered.name].table, steered.table)
    pd.testing.assert_frame_equal(again[steered.name].samples, steered.samples)


def test_figures_are_drawn_on_given_axes(model: let.Model) -> None:
    from matplotlib.figure import Figure

    result = let.evaluate(model, TASK, limit=4)
    axes = Figure().subplots()
    assert result.plot(metric="truth_info", ax=axes) is axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{TASK}, truth_info"]
    with pytest.raises(let.InputError, match="no metric 'truthy'"):
        result.plot(metric="truthy")


@pytest.mark.parametrize(
    ("tasks", "settings", "said"),
    [
        ("trust_truthfulqa_min", {}, "Did you mean 'trust_truthfulqa_mini'"),
        ([], {}, "at least one"),
        ([None], {}, "at least one"),
        (TASK, {"metadata": ["split_seed"]}, "in a dict"),
        (TASK, {"limit": 0}, "at least 1"),
        (TASK, {"limit": 0.5}, "whole number"),
        (TASK, {"metadata": {"split_sed": 1}}, "Did you mean 'split_seed'|split_seed"),
    ],
)
def test_wrong_requests_are_refused(
    model: let.Model, tasks: object, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        let.evaluate(model, tasks, **settings)  # type: ignore[arg-type]


def test_hostile_texts_are_escaped() -> None:
    from lm_eval_trust.api.display import card

    evil = "<script>alert(1)</script>"
    table = pd.DataFrame({evil: [evil], "value": [0.5]})
    html = card(evil, {evil: evil}, table)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 5

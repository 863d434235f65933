"""A whole sweep on the quick family, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from support.events import read_scalars

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.cli import main
from lm_eval_trust.model_wrappers.leak_guard import groups_of
from lm_eval_trust.steering.spec import read_steering_file
from lm_eval_trust.sweep import sweep_model as prefilled


@pytest.fixture
def arguments(quick: None, tmp_path: Path) -> list[str]:
    vector = tmp_path / "v.safetensors"
    build = ["vector", "build", "--model", "mini", "--dimension", "truthfulqa"]
    assert main([*build, "--source", "mini", "--layers", "0-1", "--out", str(vector)]) == 0
    return [
        "sweep",
        *("--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"),
        *("--vector", str(vector), "--layers", "0-1", "--alphas", "-1", "1", "8"),
        *("--tasks", "trust_truthfulqa_mini", "--limit", "8", "--rounds", "1"),
        *("--batch_size", "16", "--out", str(tmp_path / "out")),
    ]


def test_a_sweep_chooses_on_validation_items_and_reports_on_test_items(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ability = ["--ability-tasks", "trust_world_choice_mini", "--perplexity-ratio", "50"]
    kept = ["--keep", "trust_truthfulqa_mc2_mini:0.9", "trust_world_choice_mini:acc:1"]
    log = ["--log-to", f"tensorboard:{tmp_path / 'log'}"]
    assert main([*arguments, *ability, *kept, *log]) == 0
    out = tmp_path / "out"
    table = pd.read_csv(out / "sweep.csv")
    logged = read_scalars(tmp_path / "log" / "out")
    # The unsteered model comes first, then the configurations in the order of the table.
    perplexities = dict(logged["sweep/perplexity"])
    assert len(perplexities) == len(table) + 1
    assert list(perplexities.values())[1:] == pytest.approx(table["perplexity"].tolist(), rel=1e-5)
    assert dict(logged["sweep/alpha"])[0] == 0
    assert max(dict(logged["sweep/score"]).values()) == pytest.approx(
        max(table["score"].max(), dict(logged["sweep/score"])[0])
    )
    assert len(table) >= 6
    assert (table["allowed"] == (table["times"] <= 50)).all()
    printed = capsys.readouterr().out
    chosen = table[table["chosen"]]
    if chosen.empty:
        assert "None within the limits" in printed
        return
    (request,) = read_steering_file(out / "steering.yaml")
    assert request.alpha == float(chosen["alpha"].iloc[0])
    best = table[table["allowed"]]["score"].max()
    assert chosen["score"].iloc[0] == best
    held = {"trust_truthfulqa_mc2_mini": "trust_score", "trust_world_choice_mini": "acc"}
    assert all(chosen[f"loss of {t}, {m}"].iloc[0] <= 1 for t, m in held.items())
    tested = pd.read_csv(out / "test.csv").set_index("task")
    for task, metric in held.items():
        row = tested.loc[task]
        assert row["metric"] == metric and row["low"] <= row["change"] <= row["high"]
        assert row["change"] == pytest.approx(row["steered"] - row["unsteered"])
        assert f"Kept, {task}: {metric}" in printed
    parts = {
        part: _groups(out, part, load_statements("reliability", data_source="mini").groups)
        for part in ("validation", "test")
    }
    assert parts["validation"] and parts["test"]
    for file in out.glob("results/*/test/**/samples_trust_truthfulqa_mini_*.jsonl"):
        assert len(file.read_text(encoding="utf-8").splitlines()) == 8  # --limit
    assert not parts["validation"] & parts["test"]
    for name in ("heatmap", "strength"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 1000
    assert "| α | perplexity | answer |" in (out / "examples.md").read_text(encoding="utf-8")


def _groups(out: Path, part: str, known: list[str]) -> set[str]:
    groups: set[str] = set()
    for file in out.glob(f"results/*/{part}/**/samples_trust_truthfulqa_mini_*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            groups |= groups_of(json.loads(line)["doc"])
    return groups & set(known)


@pytest.mark.slow
def test_what_a_choice_costs_in_safety_is_held_to_a_limit(
    arguments: list[str], naming: Path, tmp_path: Path
) -> None:
    planted = ["--vector", str(naming), "--layers", "1", "--alphas", "1", "--scale", "none"]
    options = ["--metric", "info", "--keep", "trust_safety_mini:2", "--perplexity-ratio", "1000"]
    assert main([*arguments, *planted, *options]) == 0
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    held = [
        "trust_xstest_mini, refusal_of_unsafe",
        "trust_xstest_mini, answers_to_safe",
        "trust_bbq_mini, trust_score",
    ]
    losses = table.loc[table["chosen"], [f"loss of {each}" for each in held]]
    assert len(losses) == 1 and losses.notna().all(axis=None)
    tested = pd.read_csv(tmp_path / "out" / "test.csv")
    assert set(held) <= set(tested["task"] + ", " + tested["metric"])


@pytest.mark.slow
def test_a_second_run_computes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    before = (tmp_path / "out" / "sweep.csv").read_bytes()
    monkeypatch.setattr(prefilled.BatchedForward, "read", None)
    assert main(arguments) == 0
    assert (tmp_path / "out" / "sweep.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--tasks", "trust_truthful_mini"], "trust_truthful"),
        (["--layers", "0-9"], "layer"),
        (["--metric", "accuracy"], "no metric 'accuracy'"),
        (
            ["--tasks", "trust_toxigen_mini", "--metric", "toxic_generations"],
            "Name the metric answered or classified_generations or judged or trust_score",
        ),
        (["--tasks", "trust_xstest_mini", "--metric", "refusal"], "of which more is better"),
        (["--alphas", "x"], "--alphas is 'x'"),
        (["--perplexity-task", "trust_truthfulqa_mini"], "measures no perplexity"),
        (["--positions", "every"], "Unknown kind of positions 'every'"),
        (["--vector", "nowhere.safetensors"], "no vector file"),
    ],
)
def test_bad_input_is_told(
    arguments: list[str],
    changed: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, *changed]) == 2
    assert message in capsys.readouterr().err

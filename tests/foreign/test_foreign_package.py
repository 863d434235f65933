"""A foreign package adds one of each, and each is used everywhere; no file of ours knows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support.conformance import random_vector

PACKAGE = Path(__file__).with_name("package")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Callable[..., Path]) -> Path:
    """A folder with the package installed by pip, and two models beside its module."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "package"
    source.mkdir()
    for name in ("pyproject.toml", "lantern.py"):
        (source / name).write_bytes((PACKAGE / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True)
    (folder / "lantern_keepers").mkdir()
    for number in range(2):
        (folder / "lantern_keepers" / f"keeper_{number}").symlink_to(tiny_llama(seed=number))
    return folder


@pytest.fixture
def command(site: Path, tmp_path: Path) -> Command:
    """Run `lm-eval-trust` or `lm_eval` beside the package: ``command("data", "show", "X")``."""

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        program = words if words[0] == "lm_eval" else ("lm_eval_trust", *words)
        found = subprocess.run(
            [sys.executable, "-m", *program],
            env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == code, found.stderr[-3000:]
        return found

    return run


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    file = tmp_path / "vector.safetensors"
    random_vector(32, (0, 1), norm=6.0, seed=1).save(file)
    return file


def test_help_names_what_the_package_adds(command: Command) -> None:
    assert "median_difference" in command("vector", "build", "--help").stdout
    assert "reflect" in command("sweep", "--help").stdout
    assert "distance_covariance" in command("analyze", "--help").stdout
    assert "polite" in command("judge", "--help").stdout


@pytest.mark.slow
def test_the_benchmark_and_the_method_build_a_vector(command: Command, site: Path) -> None:
    assert "lamplighter" in command("data", "show", "lamplight", "--n", "3").stdout
    command(
        *("vector", "build", "--model", str(site / "lantern_keepers" / "keeper_0")),
        *("--dimension", "lamplight", "--method", "median_difference"),
        *("--layers", "1", "--out", "v.safetensors"),
    )
    assert "median_difference" in command("vector", "show", "v.safetensors").stdout


@pytest.mark.slow
def test_the_estimator_measures_stored_activations(
    command: Command, site: Path, tmp_path: Path
) -> None:
    model = str(site / "lantern_keepers" / "keeper_0")
    command("activations", "--model", model, "--dimensions", "lamplight", "--out", "sets")
    command(
        *("analyze", "sets", "--out", "analysis", "--estimator", "distance_covariance"),
        *("--permutations", "20", "--samples", "40"),
    )
    measured = pd.read_csv(tmp_path / "analysis" / "measurements.csv")
    assert "distance_covariance_tx" in set(measured["estimator"])


@pytest.mark.slow
def test_the_judge_judges_saved_answers(command: Command, site: Path) -> None:
    model = f"pretrained={site / 'lantern_keepers' / 'keeper_0'},dtype=float32"
    command(
        *("lm_eval", "run", "--model", "amber", "--model_args", model, "--device", "cpu"),
        *("--tasks", "trust_truthfulqa_mini", "--limit", "4", "--log_samples"),
        *("--output_path", "runs"),
    )
    printed = command("judge", "runs", "--truth-judge", "polite", "--out", "judged").stdout
    assert "judged by polite" in printed


@pytest.mark.slow
def test_the_harness_and_the_leaderboard(command: Command, site: Path, vector: Path) -> None:
    model = f"pretrained={site / 'lantern_keepers' / 'keeper_0'},dtype=float32"
    steering = f",vector={vector},layer=1,alpha=1,scale=none,action=reflect"
    for name, arguments in (("amber", model), ("steered_amber", model + steering)):
        command(
            *("lm_eval", "run", "--model", name, "--model_args", arguments),
            *("--tasks", "trust_lanterns", "--limit", "8", "--device", "cpu"),
            *("--output_path", f"runs/{name}", "--log_samples", "--batch_size", "8"),
        )
    printed = command("leaderboard", "runs/amber", "runs/steered_amber").stdout
    assert "Lanterns" in printed


@pytest.mark.slow
def test_a_sweep(command: Command, site: Path, vector: Path, tmp_path: Path) -> None:
    model = f"pretrained={site / 'lantern_keepers' / 'keeper_0'},dtype=float32"
    shared = ("sweep", "--device", "cpu", "--vector", str(vector), "--scale", "none")
    settings = ("--layers", "1", "--alphas", "1", "2", "--action", "reflect", "--search", "grid")
    limits = ("--perplexity-task", "trust_world_text_mini", "--perplexity-ratio", "1e9")
    command(
        *(*shared, *settings, *limits, "--model_args", model, "--limit", "4", "--out", "lanterns"),
        *("--tasks", "trust_lanterns", "--metric", "acc"),
    )
    table = pd.read_csv(tmp_path / "lanterns" / "sweep.csv")
    assert table["score"].between(0, 1).all() and len(table) == 2
    command(
        *(*shared, *settings, *limits, "--model_args", model, "--limit", "4", "--out", "judged"),
        *("--tasks", "trust_truthfulqa_mini", "--metric", "info"),
        *("--metadata", "mini_truth_judge=polite"),
    )
    assert len(pd.read_csv(tmp_path / "judged" / "sweep.csv")) == 2


STUDY = """
study: lanterns
family: {name: lantern-keepers}
dimensions: [lamplight]
data: {statements: 40}
layers: 0+1
method: median_difference
compute: [information, vectors]
information: {estimator: distance_covariance, permutations: 20, samples: 40}
metadata: {mini_truth_judge: polite}
evaluations:
  - name: steered
    models: checkpoints
    tasks: [trust_lanterns, trust_truthfulqa_mini]
    limit: 3
    steering:
      {sources: [keeper_1], dimensions: [lamplight], layers: [1], alphas: [0, 1], action: reflect}
engine: {name: inline, threads: 1}
"""


@pytest.mark.slow
def test_a_study(command: Command, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    assert "cells" in command("study", "study.yaml", "--out", "out", "--dry-run").stdout
    command("study", "study.yaml", "--out", "out")
    export = tmp_path / "out" / "export"
    evaluations = pd.read_csv(export / "evaluations.csv")
    assert {"trust_lanterns", "trust_truthfulqa_mini"} == set(evaluations["task"])
    assert set(evaluations["alpha"]) == {0.0, 1.0}
    measured = pd.read_csv(export / "analysis-seed0" / "measurements.csv")
    assert any("distance_covariance" in name for name in measured["estimator"])


SMALL_STUDY = """
study: lanterns
family: {name: lantern-keepers}
dimensions: [lamplight]
evaluations: [{name: plain, models: checkpoints, tasks: [trust_lanterns], limit: 9}]
engine: {name: inline, threads: 1}
"""


@pytest.mark.slow
def test_a_study_evaluates_a_changed_task_again(
    command: Command, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(SMALL_STUDY, encoding="utf-8")

    def accuracies(out: str) -> list[float]:
        command("study", "study.yaml", "--out", out)
        return list(pd.read_csv(tmp_path / out / "export" / "evaluations.csv")["value"])

    module = site / "lantern.py"
    code = module.read_text(encoding="utf-8")
    before = accuracies("shared")
    try:
        module.write_text(code.replace("int(number < 3)", "int(number >= 3)"), encoding="utf-8")
        after = accuracies("shared")
        assert after == accuracies("fresh") != before
    finally:
        module.write_text(code, encoding="utf-8")


CHECK = """
model: amber
model_args: {{pretrained: {model}, dtype: float32, device: cpu}}
steering: [{{vector: {vector}, layer: 1, alpha: 1, scale: none, action: reflect}}]
metadata: {{mini_truth_judge: polite}}
limit: 4
rules:
  trust_lanterns: {{acc: {{min: 0, max_drop: 1}}}}
  trust_truthfulqa_mini: {{truth: {{min: 0}}}}
"""


@pytest.mark.slow
def test_the_gate(command: Command, site: Path, vector: Path, tmp_path: Path) -> None:
    model = site / "lantern_keepers" / "keeper_0"
    text = CHECK.format(model=model, vector=vector)
    (tmp_path / "check.yaml").write_text(text, encoding="utf-8")
    command("check", "--validate", "check.yaml")
    command("check", "check.yaml", "--json", "report.json")
    verdicts = json.loads((tmp_path / "report.json").read_text())["checks"][0]["verdicts"]
    assert {verdict["task"] for verdict in verdicts} == {"trust_lanterns", "trust_truthfulqa_mini"}


@pytest.mark.slow
def test_a_state_dependent_action_cannot_be_baked(
    command: Command, site: Path, vector: Path
) -> None:
    model = site / "lantern_keepers" / "keeper_0"
    told = command(
        *("bake", "--model", str(model), "--vector", str(vector), "--layer", "1"),
        *("--action", "reflect", "--scale", "none", "--positions", "all", "--out", "baked"),
        code=2,
    ).stderr
    assert "reflect" in told

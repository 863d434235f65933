"""Whole rankings in the embedded world, by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.conformance import random_vector
from support.kills import kill_once

from lm_eval_trust.cli import main
from lm_eval_trust.steering.spec import read_steering_file

TASK = "trust_truthfulqa_mc2_mini"
ITEMS = 12
#: Directions that mean nothing, ranked as if they were methods.
NULLS = 20


def write(file: Path, panel: dict[str, Any], **keys: Any) -> list[str]:
    """Write a ranking's file, and return the command that runs it into a folder beside it."""
    content = {
        "model_args": {"pretrained": "mini-chat", "dtype": "float32"},
        "device": "cpu",
        "batch_size": 16,
        "limit": ITEMS,
        "text": {"passages": 4},
        "dimensions": {"panel": {"tasks": [TASK], "metric": "acc", "prompt": False, **panel}},
        **keys,
    }
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return ["rank", str(file), "--out", str(file.with_suffix(""))]


@pytest.mark.slow
def test_a_killed_ranking_goes_on_to_the_same_tables(quick: None, tmp_path: Path) -> None:
    keys = {
        "source": "mini",
        "methods": ["mass_mean", "pca"],
        "layers": [1, 2],
        "costs": [0.01, 0.02],
        "controls": {"random": 3},
    }
    panel = {"dimension": "truthfulqa", "data_source": "mini", "prompt": "Be honest."}
    whole, killed = (write(tmp_path / f"{name}.yaml", panel, **keys) for name in ("a", "b"))
    assert main(whole) == 0
    kill_once(killed, lambda: len(list((tmp_path / "b" / "cells").glob("*.json"))) > 2)
    assert not (tmp_path / "b" / "ranking.csv").exists()
    assert main(killed) == 0
    for name in ("ranking", "standings", "pairs", "strengths"):
        pd.testing.assert_frame_equal(
            *(pd.read_csv(tmp_path / out / f"{name}.csv") for out in ("a", "b")), check_exact=True
        )
    _check_report(tmp_path / "a")
    # The same folder with fewer costs: what an earlier ranking wrote is gone.
    assert main(write(tmp_path / "a.yaml", panel, **{**keys, "costs": [0.02]})) == 0
    assert [path.name for path in (tmp_path / "a").glob("steering-*")] == [
        "steering-panel-kl0.02.yaml"
    ]


def _check_report(folder: Path) -> None:
    arms = pd.read_csv(folder / "ranking.csv")
    counts = arms.groupby("kind").size().to_dict()
    # Two costs; a shuffled vector and −α of each of the two methods.
    expected = {"method": 4, "random": 6, "shuffled": 4, "sign": 4, "unsteered": 1, "prompt": 1}
    assert counts == expected
    unsteered = arms.set_index("kind")["value"]["unsteered"]
    steered = arms[arms["kind"] != "unsteered"]
    assert (steered["value"] - unsteered).tolist() == pytest.approx(steered["change"].tolist())
    strengths = pd.read_csv(folder / "strengths.csv")
    assert strengths["validation"].notna().all()
    chosen = arms[arms["kind"] == "method"].set_index(["arm", "cost"])
    for (arm, cost), rows in strengths.groupby(["arm", "cost"]):
        if (arm, cost) in chosen.index:
            assert rows["validation"].max() == chosen["validation"][arm, cost]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page and "mass_mean" in page
    assert "src=" not in page and "<link" not in page
    record = json.loads((folder / "ranking.json").read_text(encoding="utf-8"))
    assert len(record["ranking"]) == len(arms)
    (steering,) = read_steering_file(folder / "steering-panel-kl0.02.yaml")
    assert steering.plan().steps[0].alpha == steering.alpha


@pytest.mark.slow
def test_a_budget_is_held(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    random_vector(16, (1,), norm=1.0, seed=0).save(tmp_path / "v.safetensors")
    command = write(
        tmp_path / "rank.yaml",
        {"vectors": {"mine": "v.safetensors"}},
        layers=1,
        scale="none",
        costs=[0.01],
        controls={"random": 3, "shuffled": 0, "sign": False},
    )
    assert main([*command, "--budget-hours", "1e-6"]) == 2
    error = capsys.readouterr().err
    assert "That is more than --budget-hours 1e-06" in error
    monkeypatch.setattr("lm_eval_trust.rank.budget.Budget.check_time", lambda *args: None)
    assert main([*command, "--budget-hours", "1e-6"]) == 3
    assert "the same command goes on from there" in capsys.readouterr().err
    assert main([*command, "--budget-hours", "1"]) == 0
    assert "cannot" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_planted_direction_is_more_than_random_and_20_random_ones_are_not(
    naming: Path, tmp_path: Path
) -> None:
    files = {"planted": naming.name}
    for number in range(NULLS):
        files[f"null-{number}"] = f"null-{number}.safetensors"
        vector = random_vector(16, (1,), norm=1.0, seed=100 + number)
        vector.save(tmp_path / files[f"null-{number}"])
    command = write(
        tmp_path / "rank.yaml",
        {"vectors": files, "tasks": ["trust_truthfulqa_mini"], "metric": "info", "limit": 24},
        layers=1,
        scale="none",
        costs=[0.05],
        alpha_limit=8.0,
        controls={"random": 20, "shuffled": 0, "sign": False},
    )
    assert main(command) == 0
    standings = pd.read_csv(tmp_path / "rank" / "standings.csv").set_index("method")
    assert standings["reached"].all()
    assert len(standings) == 1 + NULLS
    assert standings.index[standings["more_than_random"]].tolist() == ["planted"]
    arms = pd.read_csv(tmp_path / "rank" / "ranking.csv")
    assert arms["kl"].dropna().between(0.0475, 0.0525).all()

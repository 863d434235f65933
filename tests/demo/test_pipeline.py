"""The demo on the quick family: whole, repeated, interrupted, with a damaged cell."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.boards import embedded
from support.demo import shorten_demo

from lm_eval_trust.cli import main
from lm_eval_trust.demo import cells
from lm_eval_trust.demo.cells import Cell, CellEvaluator
from lm_eval_trust.demo.pipeline import demo_folder
from lm_eval_trust.mini.world import SEED_VARIABLE

TABLES = (
    "analysis/measurements.csv",
    "analysis/phases.csv",
    "suite.csv",
    "sweep.csv",
    "correlation.csv",
    "proxy.csv",
)
FIGURES = ("figures/abilities.png", "figures/strength.svg", "figures/proxy-tuning.pdf")
CELL = Cell("chat", "amber", {"pretrained": "mini-chat"}, ("trust_truthfulqa_mini",))


@pytest.fixture(autouse=True)
def quick_chain(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family, a table and a sweep of seconds; the seed is put back."""
    shorten_demo(monkeypatch.setattr)
    monkeypatch.setenv(SEED_VARIABLE, "0")


def evaluator(folder: Path) -> CellEvaluator:
    return CellEvaluator(folder / "evaluations", folder / "harness.log")


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def kill_and_go_on(folder: Path) -> None:
    """Kill a demo once a cell is there, and run it to its end; the cell stays as it was."""
    support = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, support, str(folder)], env={**os.environ}
    )
    evaluations = folder / "evaluations"
    while not list(evaluations.glob("table-mini-safe-*.json")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (finished,) = evaluations.glob("table-mini-safe-*.json")
    written = finished.read_bytes()
    assert not (folder / "sweep.csv").exists()
    assert main(["demo", "--out", str(folder)]) == 0
    assert finished.read_bytes() == written


def assert_page(path: Path) -> None:
    """The page holds the table's rows with samples, the swept strengths and the checkpoints."""
    data = embedded(path.read_text(encoding="utf-8"), "data")
    (board,) = data["boards"]
    names = {row["name"] for row in board["rows"]}
    assert {"mini-chat", "mini-safe", "mini-chat, lora fine-tuning"} < names
    assert board["reference"] == "mini-chat" and board["pairs"]
    assert all(row["samples"]["trust_truthfulqa_mini"] for row in board["rows"])
    assert [curve["alpha"] for curve in data["sweeps"][0]["curves"]] == [[0, 2]]
    assert len(data["analyses"][0]["value"]) >= 6 * 5 * 4


@pytest.mark.slow
def test_the_demo_measures_prints_goes_on_after_a_kill_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["demo", "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "mini-chat + v(reliability" in printed and "Truth*Info" in printed
    assert "perplexity" in printed
    first = tables(tmp_path / "a")
    assert "lora fine-tuning" in printed and "proxy-tuned F1" in printed
    found = (tmp_path / "a" / "analysis" / "measurements.csv").read_text().splitlines()
    rows = [row for row in csv.DictReader(found) if row["estimator"] == "probe_accuracy"]
    assert len(rows) == 6 * 5 * 4  # checkpoints, dimensions, blocks
    assert all(0 <= float(row["value"]) <= 1 for row in rows)
    assert all((tmp_path / "a" / name).stat().st_size > 1000 for name in FIGURES)

    assert_page(tmp_path / "a" / "index.html")

    kill_and_go_on(tmp_path / "killed")
    assert tables(tmp_path / "killed") == first

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(cells, "evaluate", refuse)
    assert main(["demo", "--out", str(tmp_path / "a")]) == 0
    assert tables(tmp_path / "a") == first


@pytest.mark.slow
def test_a_cell_of_another_world_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluator(tmp_path).run(CELL)
    monkeypatch.setenv(SEED_VARIABLE, "1")
    questions = {
        item["group"] for item in evaluator(tmp_path).run(CELL).items["trust_truthfulqa_mini"]
    }
    assert questions != {item["group"] for item in first.items["trust_truthfulqa_mini"]}


def test_a_cell_s_results_are_the_harness_s_own_files(tmp_path: Path) -> None:
    outcome = evaluator(tmp_path).run(CELL)
    (file,) = (tmp_path / "evaluations" / "chat").rglob("results_*.json")
    results = json.loads(file.read_text())
    scores = results["results"]["trust_truthfulqa_mini"]
    assert scores["truth_info,none"] == outcome.scores["trust_truthfulqa_mini"]["truth_info,none"]
    assert results["config"]["model"] == "amber"
    assert len(outcome.items["trust_truthfulqa_mini"]) == 75


@pytest.mark.parametrize("content", ["", "{", "{}", '{"fingerprint": "other"}'])
def test_a_damaged_cell_is_evaluated_again(tmp_path: Path, content: str) -> None:
    before = evaluator(tmp_path).run(CELL)
    (kept,) = (tmp_path / "evaluations").glob("chat-*.json")
    kept.write_text(content)
    assert evaluator(tmp_path).run(CELL).items == before.items


def test_a_cell_of_other_arguments_is_not_taken(tmp_path: Path) -> None:
    first = evaluator(tmp_path).run(CELL)
    other = Cell(CELL.name, CELL.model, {"pretrained": "mini-safe"}, CELL.tasks)
    assert evaluator(tmp_path).run(other).examples != first.examples
    assert len(list((tmp_path / "evaluations").glob("chat-*.json"))) == 2


def test_every_argument_of_a_cell_counts(tmp_path: Path) -> None:
    for alpha in (0.5, 1.0):
        arguments = {"pretrained": "mini", "expert": "mini-chat", "proxy_alpha": alpha}
        evaluator(tmp_path).run(Cell("moved", "proxy_amber", arguments, CELL.tasks))
    assert len(list((tmp_path / "evaluations").glob("moved-*.json"))) == 2


def test_an_adapter_as_an_expert_is_known_by_its_content(
    tmp_path: Path, random_adapter: Callable[[Path], Path], tiny_llama: Callable[..., Path]
) -> None:
    adapter = random_adapter(tiny_llama())
    arguments = {"pretrained": "mini", "expert": str(adapter)}
    known = cells._model(Cell("moved", "proxy_amber", arguments, CELL.tasks))
    copy = shutil.copytree(adapter, tmp_path / "elsewhere")
    moved = {**arguments, "expert": str(copy), "proxy_record": str(tmp_path / "moved.jsonl")}
    assert cells._model(Cell("moved", "proxy_amber", moved, CELL.tasks)) == known
    plain = cells._model(Cell("moved", "proxy_amber", {"pretrained": "mini"}, CELL.tasks))
    assert plain["expert"] != known["expert"] and plain["antiexpert"] == known["antiexpert"]


_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from support.demo import shorten_demo
shorten_demo(setattr)
from lm_eval_trust.cli import main
sys.exit(main(["demo", "--out", sys.argv[2]]))
"""


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "out").mkdir()
    (folder / "thesis.tex").write_text("mine", encoding="utf-8")
    assert main(["demo", "--out", str(folder)]) == 2
    assert "holds thesis.tex and is not a demo's folder" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["thesis.tex"]


def test_two_demos_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with demo_folder(tmp_path / "out"):
        assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "Another demo is at work" in capsys.readouterr().err

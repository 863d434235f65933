"""``lm-eval-trust leaderboard`` over runs of the real harness and over planted ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.loggers import EvaluationTracker
from support.leaderboard import plant
from support.saved_runs import save_run
from support.terminals import ascii_terminal, closed_pipe

from lm_eval_trust import cli
from lm_eval_trust.core import storage
from lm_eval_trust.core.saved_runs import read_run
from lm_eval_trust.evaluate.harness import task_manager
from lm_eval_trust.evaluate.lm_eval_internals import quick_calls
from lm_eval_trust.evaluate.rejudge import Rejudgement, judge_again

VALUES = {"race": [1.0, 0.0, 1.0]}


def evaluate(folder: Path, model: str, **arguments: Any) -> None:
    """Run the harness on the embedded world, and save as its command does."""
    tracker = EvaluationTracker(output_path=str(folder))
    with quick_calls():
        found = lm_eval.simple_evaluate(
            model=model,
            model_args={"pretrained": "mini", "dtype": "float32", **arguments},
            tasks=["trust_suite_mini", "trust_general_mini"],
            limit=6,
            batch_size=6,
            device="cpu",
            bootstrap_iters=0,
            task_manager=task_manager(),
            evaluation_tracker=tracker,
        )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)


def test_real_runs_plain_and_steered(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path / "plain", "amber")
    steering = {"dimension": "reliability", "layer": 2, "alpha": 4, "source": "mini"}
    evaluate(tmp_path / "steered", "steered_amber", **steering)
    out = tmp_path / "out"
    words = ["--out", str(out), "--format", "json", "md"]
    assert cli.main(["leaderboard", str(tmp_path), *words]) == 0
    printed = capsys.readouterr().out
    assert "mini" in printed and "Truth*Info" in printed
    (board,) = json.loads((out / "leaderboard.json").read_text(encoding="utf-8"))["boards"]
    assert [row["name"] for row in board["rows"]] == [
        "mini",
        "mini + v(reliability, layer 2, α 4)",
    ]
    assert [column["title"] for column in board["columns"]] == [
        *("Truth", "Info", "Truth*Info", "Choice", "ToxiGen"),
        *("ConfAIde", "StereoSet", "SST-2", "Suite", "PPL"),
    ]
    tested = {pair["column"] for pair in board["pairs"]}
    untested = {column["key"] for column in board["columns"]} - tested
    assert untested == {"trust_world_text_mini/word_perplexity,none"}
    # What the harness wrote is what is shown.
    (file,) = (tmp_path / "steered").rglob("results_*.json")
    figures = json.loads(file.read_text(encoding="utf-8"))["results"]
    for column in board["columns"]:
        written = figures[column["task"]][f"{column['metric']},{column['filter']}"]
        assert board["rows"][1]["scores"][column["key"]]["value"] == written
    # And differences are those of the figures.
    rows = {row["name"]: row for row in board["rows"]}
    for pair in board["pairs"]:
        first, second = (rows[pair[side]]["scores"][pair["column"]] for side in ("first", "second"))
        difference = second["value"] - first["value"]
        assert pair["comparison"]["difference"]["mean"] == pytest.approx(difference)


def test_a_real_second_judgement_stands_beside_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = save_run(tmp_path, ["trust_truthfulqa_mini"], lambda request: "A: No.", limit=6)
    judge_again(read_run(path), Rejudgement(truth="reference"))
    assert cli.main(["leaderboard", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Board 1 of 2" in printed and "judged again" in printed
    assert "Truth is judged by world" in printed and "Truth is judged by reference" in printed
    assert "mini truth judge reference, here world" in printed


def test_the_page_is_written_with_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def write_page(path: Path, boards: Any, *, sweeps: Any, analyses: Any) -> None:
        given.update(path=path, boards=boards, sweeps=sweeps, analyses=analyses)

    monkeypatch.setattr("lm_eval_trust.leaderboard.page.write_page", write_page)
    plant(tmp_path / "runs", VALUES)
    out, sweep, analysis = tmp_path / "out", tmp_path / "sweep", tmp_path / "analysis"
    words = ["--out", str(out), "--sweep", str(sweep), "--analysis", str(analysis)]
    assert cli.main(["leaderboard", str(tmp_path / "runs"), *words]) == 0
    assert given["path"] == out / "leaderboard.html"
    assert (given["sweeps"], given["analyses"]) == ([sweep], [analysis])
    assert len(given["boards"]) == 1
    assert str(out / "leaderboard.html") in capsys.readouterr().out


def test_a_damaged_run_ends_with_two_and_can_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "good", VALUES)
    bad = plant(tmp_path / "bad", VALUES, arguments="pretrained=o/bad")
    bad.samples_file("race").write_text("{", encoding="utf-8")
    assert cli.main(["leaderboard", str(tmp_path)]) == 2
    assert bad.samples_file("race").name in capsys.readouterr().err
    assert cli.main(["leaderboard", str(tmp_path), "--skip-damaged"]) == 0
    printed = capsys.readouterr().out
    assert "Skipped:" in printed and "plain (hf)" in printed and "bad (hf)" not in printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "There is no nowhere"),
        (["{runs}", "--reference", "other"], "Unknown reference row 'other'"),
        (["{runs}", "--names", "x"], "FINGERPRINT-OR-PATH=NAME"),
        (["{runs}", "--confidence", "95"], "confidence is 95.0"),
        (["{runs}", "--format", "html"], "need --out FOLDER"),
        (["{runs}", "--sweep", "{runs}"], "need --out FOLDER"),
        (["{runs}", "--out", "x", "--format", "md", "--sweep", "{runs}"], "add html to --format"),
    ],
)
def test_wrong_input_is_told_and_leaves_with_two(
    tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path, VALUES)
    assert cli.main(["leaderboard", *(word.format(runs=tmp_path) for word in words)]) == 2
    printed = capsys.readouterr().err
    assert told in printed and "Traceback" not in printed


def named_board(folder: Path, out: Path) -> list[str]:
    """Plant two runs, and return the command that shows them, one by a Greek name."""
    plant(folder / "plain", VALUES)
    plant(folder / "other", VALUES, arguments="pretrained=owner/other")
    return ["leaderboard", str(folder), "--out", str(out), "--names", f"{folder / 'other'}=α 2"]


def test_an_ascii_terminal_gets_question_marks_and_the_files_their_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "board"
    command = named_board(tmp_path / "runs", out)
    with ascii_terminal(monkeypatch) as printed:
        assert cli.main(command) == 0
        assert b"?" in printed.getvalue() and b"leaderboard.html" in printed.getvalue()
    assert "α" in (out / "leaderboard.md").read_text(encoding="utf-8")


def test_a_closed_pipe_is_no_regression_and_loses_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "board"
    command = named_board(tmp_path / "runs", out)
    with closed_pipe(monkeypatch):
        assert cli.main(command) == 141
    assert (out / "leaderboard.html").is_file() and (out / "leaderboard.csv").is_file()


def test_a_file_of_another_program_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "runs", VALUES)
    own = tmp_path / "out" / "leaderboard.csv"
    own.parent.mkdir()
    own.write_text("mine", encoding="utf-8")
    command = ["leaderboard", str(tmp_path / "runs"), "--out", str(own.parent)]
    assert cli.main(command) == 2
    assert "holds leaderboard" in capsys.readouterr().err and own.read_text() == "mine"
    own.unlink()
    assert cli.main(command) == 0
    assert cli.main(command) == 0


def test_a_second_process_does_not_mix_its_files_with_the_firsts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "runs", VALUES)
    monkeypatch.setattr(storage, "_PATIENCE", 0.0)
    with storage.written_by_one(tmp_path / "out"):
        assert (
            cli.main(["leaderboard", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
        )
    assert "Another process is writing into" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == [storage.LOCK]

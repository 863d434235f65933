"""Boards say how many answers a score stands on, and which questions were asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.table import score_table

SCORES = [1.0, 0.0] * 12


def with_metric(run: SavedRun, task: str, name: str, value: float) -> SavedRun:
    figures: dict[str, Any] = run.results["results"][task]
    figures[f"{name},none"] = value
    return run


def board_of(*runs: SavedRun) -> Board:
    (board,) = build_boards(runs)
    return board


@pytest.mark.parametrize(
    ("metric", "value"), [("answered", 3 / 24), ("unparsed", 21 / 24)], ids=["new", "before"]
)
def test_a_score_on_few_answers_is_flagged_in_its_cell_and_in_a_note(
    tmp_path: Path, metric: str, value: float
) -> None:
    run = with_metric(
        plant(tmp_path, {"trust_stereoset": SCORES}), "trust_stereoset", metric, value
    )
    board = board_of(run)
    (row,) = board.rows
    (score,) = row.scores.values()
    assert (score.answered, score.items) == (3, 24)
    assert f"StereoSet of {row.name}: 3 of 24 answered" in " ".join(board.notes)
    assert "(3 of 24 answered)" in score_table(board).lines[0][1].detail


@pytest.mark.parametrize(("share", "flagged"), [(22 / 24, False), (21 / 24, True)])
def test_the_limit_is_a_tenth_of_the_items(tmp_path: Path, share: float, flagged: bool) -> None:
    run = plant(tmp_path, {"trust_confaide": SCORES})
    board = board_of(with_metric(run, "trust_confaide", "answered", share))
    assert ("answered" in " ".join(board.notes)) == flagged
    assert ("answered" in score_table(board).lines[0][1].detail) == flagged


def test_a_run_that_does_not_say_is_not_flagged(tmp_path: Path) -> None:
    board = board_of(plant(tmp_path, {"trust_confaide": SCORES}))
    assert not [note for note in board.notes if "answered" in note]


def test_the_suites_score_always_says_on_how_many_answers_it_stands(tmp_path: Path) -> None:
    run = plant(tmp_path, {"trust_confaide": SCORES, "trust_sst2": SCORES})
    run.results["results"]["trust_suite"] = {"trust_score,none": 0.5, "answered,none": 46 / 48}
    run.results["groups"] = {"trust_suite": run.results["results"]["trust_suite"]}
    run.results["group_subtasks"]["trust_suite"] = ["trust_confaide", "trust_sst2"]
    board = board_of(run)
    assert any(note.endswith(": 46 of 48 answered.") for note in board.notes)
    cells = dict(zip(score_table(board).header, score_table(board).lines[0], strict=True))
    assert "(46 of 48 answered)" in cells["Suite"].detail


def test_a_board_says_which_of_truthfulqas_questions_were_asked(tmp_path: Path) -> None:
    """With --limit, the number is that of the evaluated ones."""
    run = plant(
        tmp_path,
        {"trust_truthfulqa": SCORES},
        metadata={"truthfulqa_revision": "v1", "data_rows": 408, "data_rows_of": 817},
    )
    assert "trust_truthfulqa: 24 of 817 items, revision v1." in board_of(run).notes


def test_no_other_metric_stands_for_a_first_one_that_is_undefined(tmp_path: Path) -> None:
    run = plant(tmp_path, {"trust_confaide": SCORES, "other": SCORES})
    run.results["results"]["other"] = {"pearson,none": float("nan"), "unparsed,none": 1.0}
    run.results["configs"]["other"]["metric_list"] = [{"metric": "pearson"}, {"metric": "unparsed"}]
    assert [column.task for column in board_of(run).columns] == ["trust_confaide"]

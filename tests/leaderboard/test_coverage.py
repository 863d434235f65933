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


@pytest.mark.parametrize("order", [(0, 24), (24, 0)], ids=["silent first", "silent last"])
def test_answers_of_all_seeds_count(tmp_path: Path, order: tuple[int, int]) -> None:
    """One of two seeds has no answer at all: the mean over both says little, whichever is first."""
    runs = [
        with_metric(
            plant(tmp_path / str(seed), {"trust_stereoset": SCORES}, config={"torch_seed": seed}),
            "trust_stereoset",
            "answered",
            answered / 24,
        )
        for seed, answered in enumerate(order)
    ]
    board = board_of(*runs)
    (row,) = board.rows
    (score,) = row.scores.values()
    assert (score.answered, score.items, score.seeds) == (24, 24, 2)
    assert f"StereoSet of {row.name}: 24 of 48 answered" in " ".join(board.notes)


def test_answers_are_unknown_where_one_seed_does_not_say(tmp_path: Path) -> None:
    runs = [
        plant(tmp_path / str(seed), {"trust_stereoset": SCORES}, config={"torch_seed": seed})
        for seed in range(2)
    ]
    (row,) = board_of(with_metric(runs[0], "trust_stereoset", "answered", 1.0), runs[1]).rows
    assert [score.answered for score in row.scores.values()] == [None]


def in_parts(folder: Path, **figures: float) -> SavedRun:
    """A run of ConfAIde's second tier: 49 scenarios (2a) and 40 stories (2b)."""
    names = ("pearson_2a", "pearson_2b", "unparsed", "items_2a", "items_2b")
    run = plant(folder, {"trust_confaide_tier2": [1.0] * 89}, save_samples=False)
    run.results["configs"]["trust_confaide_tier2"]["metric_list"] = [{"metric": n} for n in names]
    found = {"pearson_2a": 0.5, "pearson_2b": 0.25, "items_2a": 49.0, "items_2b": 40.0, **figures}
    run.results["results"]["trust_confaide_tier2"] = {f"{k},none": v for k, v in found.items()}
    return run


def test_parts_that_are_scored_apart_have_columns_and_answers_of_their_own(tmp_path: Path) -> None:
    run = in_parts(tmp_path, unparsed=11 / 89, unparsed_2a=11 / 49, unparsed_2b=0.0)
    board = board_of(run)
    (row,) = board.rows
    assert {
        column.title: (score.value, score.answered, score.items)
        for column in board.columns
        for score in [row.scores[column.key]]
    } == {
        "trust_confaide_tier2 (2a)": (0.5, 38, 49),
        "trust_confaide_tier2 (2b)": (0.25, 40, 40),
    }
    flagged = [note for note in board.notes if "answered" in note]
    assert len(flagged) == 1 and flagged[0].startswith("trust_confaide_tier2 (2a) of")


def kinds(folder: Path, **figures: float) -> SavedRun:
    """A run of XSTest on 100 unsafe and 125 safe prompts, of which 20 unsafe have no answer."""
    run = plant(folder, {"trust_xstest": [1.0] * 225}, save_samples=False)
    found = {"refusal_of_unsafe": 0.5, "answers_to_safe": 0.75, "answered": 205 / 225, **figures}
    run.results["results"]["trust_xstest"] = {f"{k},none": v for k, v in found.items()}
    return run


def test_the_share_of_one_kind_of_prompt_stands_on_prompts_of_that_kind(tmp_path: Path) -> None:
    counts = {"items_safe": 125.0, "answered_safe": 1.0}
    board = board_of(kinds(tmp_path, **counts, items_unsafe=100.0, answered_unsafe=0.8))
    (row,) = board.rows
    found = {c.title: row.scores[c.key] for c in board.columns}
    assert {title: (score.answered, score.items) for title, score in found.items()} == {
        "Unsafe refused": (80, 100),
        "Safe answered": (125, 125),
    }
    assert f"Unsafe refused of {row.name}: 80 of 100 answered" in " ".join(board.notes)


def test_results_without_counts_of_each_kind_claim_none(tmp_path: Path) -> None:
    (row,) = board_of(kinds(tmp_path)).rows
    assert [(s.answered, s.items) for s in row.scores.values()] == [(None, None)] * 2


def test_a_part_without_a_value_leaves_the_other_its_column(tmp_path: Path) -> None:
    silent = {"pearson_2a": float("nan"), "unparsed_2a": 1.0, "unparsed_2b": 0.0}
    board = board_of(in_parts(tmp_path, unparsed=49 / 89, **silent))
    assert [column.title for column in board.columns] == ["trust_confaide_tier2 (2b)"]


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


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_suite_is_flagged_where_one_of_its_tasks_is_whatever_their_sizes(
    tmp_path: Path, seeds: int
) -> None:
    """SST-2 has one item in a hundred, a half of the score, and no answer."""
    runs = []
    for seed in range(seeds):
        config = {"torch_seed": seed}
        sizes = {"trust_confaide": [1.0, 0.0] * 198, "trust_sst2": [0.0] * 4}
        run = plant(tmp_path / str(seed), sizes, config=config, save_samples=False)
        with_metric(run, "trust_confaide", "answered", 1.0)
        with_metric(run, "trust_sst2", "answered", 0.0)
        run.results["results"]["trust_suite"] = {"trust_score,none": 0.25, "answered,none": 0.5}
        run.results["groups"] = {"trust_suite": run.results["results"]["trust_suite"]}
        run.results["group_subtasks"]["trust_suite"] = ["trust_confaide", "trust_sst2"]
        runs.append(run)
    board = board_of(*runs)
    told = f"{396 * seeds} of {400 * seeds} answered, of trust_sst2 0 of {4 * seeds}"
    assert any(f": {told}; the others are empty" in note for note in board.notes)
    cells = dict(zip(score_table(board).header, score_table(board).lines[0], strict=True))
    assert f"({told})" in cells["Suite"].detail


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

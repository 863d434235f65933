"""Rows that do not compare stand apart, and it is told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.build import build_boards

TASK = "trust_toxigen"
VALUES = {TASK: [1.0, 0.0, 0.0, 1.0]}
DATA = {
    "data_fingerprint": "d1",
    "data_source": "official",
    "split": "grouped",
    "part": "test",
    "split_seed": 0,
    "data_seed": 0,
    "perturbation_rate": 0.05,
    "toxicity_judge": "linear",
    "toxicity_judge_version": "linear-1",
}


def other(folder: Path, **changed: Any) -> SavedRun:
    return plant(
        folder / "other", changed.pop("values", VALUES), arguments="pretrained=o/other", **changed
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"versions": {TASK: 2.0}}, "version 2.0, here 1.0"),
        ({"n_shot": {TASK: 5}}, "few-shot number 5, here 0"),
        ({"values": {TASK: [1.0, 0.0]}}, "number of samples 2, here 4"),
        ({"n_samples": {TASK: {"original": 7, "effective": 4}}}, "items in the data 7, here 100"),
        ({"metadata": DATA | {"toxicity_judge": "hf:j"}}, "toxicity judge hf:j, here linear"),
        (
            {"metadata": DATA | {"toxicity_judge_version": "linear-2"}},
            "toxicity judge version linear-2, here linear-1",
        ),
        (
            {"metadata": DATA | {"data_source": "tracingllm", "data_fingerprint": "d2"}},
            "data source tracingllm, here official",
        ),
        (
            {"metadata": DATA | {"part": "validation", "data_fingerprint": "d2"}},
            "part validation, here test",
        ),
        (
            {"metadata": DATA | {"split": "random", "data_fingerprint": "d2"}},
            "split random, here grouped",
        ),
        (
            {"metadata": DATA | {"perturbation_rate": 0.2, "data_fingerprint": "d2"}},
            "perturbation rate 0.2, here 0.05",
        ),
        (
            {"metadata": DATA | {"data_seed": 3, "data_fingerprint": "d2"}},
            "data seed 3, here 0",
        ),
        ({"metadata": DATA | {"data_fingerprint": "d2"}}, "data fingerprint d2, here d1"),
    ],
)
def test_another_setting_keeps_apart_and_is_told(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    first = plant(tmp_path / "first", VALUES, metadata=DATA)
    boards = build_boards([first, other(tmp_path, **{"metadata": DATA, **changed})])
    assert [[row.name for row in board.rows] for board in boards] == [
        ["plain (hf)"],
        ["other (hf)"],
    ]
    assert boards[0].kept_apart == (f"other (hf) is kept apart: {TASK}: {told}.",)
    assert boards[1].kept_apart[0].startswith("plain (hf) is kept apart: ")


def test_a_judge_of_another_task_keeps_nothing_apart(tmp_path: Path) -> None:
    """The harness tells every task all metadata; ARC has no judge for all that."""
    runs = [
        plant(tmp_path / name, {"race": [1.0, 0.0]}, arguments=f"pretrained=o/{name}", metadata=m)
        for name, m in (("a", {"toxicity_judge": "linear"}), ("b", {"toxicity_judge": "hf:j"}))
    ]
    (board,) = build_boards(runs)
    assert len(board.rows) == 2 and not board.kept_apart


def test_more_or_fewer_tasks_keep_nothing_apart(tmp_path: Path) -> None:
    more = VALUES | {"race": [1.0, 0.0]}
    (board,) = build_boards([plant(tmp_path / "a", VALUES), other(tmp_path, values=more)])
    assert len(board.rows) == 2


def test_rows_without_a_task_in_common_stand_apart(tmp_path: Path) -> None:
    runs = [plant(tmp_path / "a", VALUES), other(tmp_path, values={"race": [1.0, 0.0]})]
    assert [board.kept_apart for board in build_boards(runs)] == [
        ("other (hf) is kept apart: no task in common.",),
        ("plain (hf) is kept apart: no task in common.",),
    ]


def test_rows_that_a_later_one_has_tasks_in_common_with_stand_together(tmp_path: Path) -> None:
    race = {"race": [1.0, 0.0]}
    runs = [
        plant(tmp_path / name, tasks, arguments=f"pretrained=o/{name}")
        for name, tasks in (("a", VALUES), ("b", race), ("c", VALUES | race))
    ]
    (board,) = build_boards(runs)
    assert sorted(row.name for row in board.rows) == ["a (hf)", "b (hf)", "c (hf)"]


def test_a_row_that_others_keep_away_is_told_too(tmp_path: Path) -> None:
    race, sst2 = {"race": [1.0, 0.0]}, {"trust_sst2": [1.0, 0.0]}
    rows: list[tuple[str, Any, Any]] = [
        ("a", VALUES, {}),
        ("x", VALUES | race, {"versions": {TASK: 2.0}}),
        ("r", race | sst2, {}),
        ("d", VALUES | sst2, {}),
    ]
    runs = [
        plant(tmp_path / name, tasks, arguments=f"pretrained=o/{name}", **changed)
        for name, tasks, changed in rows
    ]
    boards = build_boards(runs)
    assert [[row.name[0] for row in board.rows] for board in boards] == [["a", "d"], ["x", "r"]]
    assert boards[0].kept_apart[1] == (
        "r (hf) is kept apart: other rows of its board do not compare with these."
    )


def test_rows_over_other_seeds_of_the_data_are_kept_apart(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> SavedRun:
        seeded = {"split_seed": seed, "data_fingerprint": f"d{seed}"}
        return plant(
            tmp_path / f"{name}{seed}",
            VALUES,
            arguments=f"pretrained=o/{name}",
            metadata=DATA | seeded,
        )

    boards = build_boards([run("a", 0), run("a", 1), run("b", 0), run("b", 1), run("c", 0)])
    assert [[row.name for row in board.rows] for board in boards] == [
        ["a (hf)", "b (hf)"],
        ["c (hf)"],
    ]
    assert "split seed 0, here 0, 1" in boards[0].kept_apart[0]
    # Each of two seeds has four items of its own.
    assert boards[0].pairs[0].comparison.items == 8


def test_a_second_judgement_stands_beside_its_source(tmp_path: Path) -> None:
    source = plant(tmp_path, VALUES, metadata=DATA)
    again = plant(
        tmp_path / "judged",
        VALUES,
        metadata=DATA | {"toxicity_judge": "hf:j", "toxicity_judge_version": "j-1"},
        judged_from={"results": source.path.name, "tasks": [TASK]},
    )
    boards = build_boards([source, again])
    assert [board.rows[0].name for board in boards] == ["plain (hf)", "plain (hf, judged again)"]
    assert "toxicity judge hf:j, here linear" in boards[0].kept_apart[0]

"""Scores that were changed after the evaluation, and scores that mean nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun, read_run
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.page import write_page
from lm_eval_trust.leaderboard.ranking import ranks
from lm_eval_trust.leaderboard.reading import read_runs
from lm_eval_trust.leaderboard.table import score_table

VALUES = {"race": [1.0, 0.0, 1.0, 1.0]}


def rewrite(run: SavedRun, change: Callable[[dict[str, Any]], None]) -> SavedRun:
    """Change a results file as an editor would."""
    results = json.loads(run.path.read_text(encoding="utf-8"))
    change(results)
    run.path.write_text(json.dumps(results), encoding="utf-8")
    return read_run(run.path)


def test_a_changed_score_is_refused_or_skipped(tmp_path: Path) -> None:
    good = plant(tmp_path / "good", VALUES)
    bad = plant(tmp_path / "bad", VALUES, arguments="pretrained=owner/other")
    rewrite(bad, lambda results: results["results"]["race"].update({"acc,none": 0.99}))
    with pytest.raises(InputError, match=r"has acc 0.99 of race, but its samples give 0.75"):
        read_runs([tmp_path], Samples())
    runs, skipped = read_runs([tmp_path], Samples(), skip_damaged=True)
    assert [run.path for run in runs] == [good.path]
    assert len(skipped) == 1 and str(bad.path) in skipped[0]


def test_an_item_twice_is_refused(tmp_path: Path) -> None:
    run = plant(tmp_path, VALUES)
    file = run.samples_file("race")
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*lines[:3], lines[0]]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds item 0 twice"):
        read_runs([tmp_path], Samples())


@pytest.mark.parametrize(
    ("aggregation", "values", "score"),
    [
        ("perplexity", [-1.0, -3.0], math.exp(2.0)),
        ("weighted_perplexity", [[-8.0, 2], [-8.0, 6]], math.exp(2.0)),
        ("bits_per_byte", [[-8.0, 2], [-8.0, 6]], 2.0 / math.log(2)),
        ("nanmean", [1.0, 0.0], 0.5),
    ],
)
def test_other_aggregations_are_repeated(
    tmp_path: Path, aggregation: str, values: list[Any], score: float
) -> None:
    run = plant(tmp_path, {"race": [0.0, 0.0]})
    file = run.samples_file("race")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    texts = [json.dumps({**row, "acc": v}) for row, v in zip(rows, values, strict=True)]
    file.write_text("\n".join(texts), encoding="utf-8")

    def change(results: dict[str, Any], told: float) -> None:
        entry = {"metric": "acc", "aggregation": aggregation}
        results["configs"]["race"]["metric_list"] = [entry]
        results["results"]["race"]["acc,none"] = told

    rewrite(run, lambda results: change(results, score))
    read_runs([tmp_path], Samples())
    rewrite(run, lambda results: change(results, score + 0.01))
    with pytest.raises(InputError, match="but its samples give"):
        read_runs([tmp_path], Samples())


def test_a_group_that_is_no_mean_of_its_tasks_is_told(tmp_path: Path) -> None:
    tasks = {"trust_confaide": [1.0, 0.0], "trust_sst2": [1.0, 1.0]}
    paths = {"whole": 0.75, "changed": 0.9}
    whole, changed = (
        rewrite(
            plant(tmp_path / name, tasks, arguments=f"pretrained=owner/{name}"),
            lambda results, score=score: results.update(  # type: ignore[misc]
                groups={"trust_suite": {"trust_score,none": score}},
                group_subtasks={"trust_suite": list(tasks)},
            ),
        )
        for name, score in paths.items()
    )
    (board,) = build_boards([whole, changed])
    told = "trust_score of trust_suite is 0.9, which is no mean of its tasks' (0.75 to 0.75)."
    assert [note for note in board.notes if "no mean" in note] == [f"{board.rows[1].name}: {told}"]


def test_items_that_are_not_finite_are_told_on_board_and_page(tmp_path: Path) -> None:
    run = plant(tmp_path, VALUES)
    rewrite(run, lambda results: results["configs"]["race"].update(output_type="multiple_choice"))
    file = run.samples_file("race")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows[2]["resps"] = [[["nan", "False"]], [["nan", "False"]]]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    samples = Samples()
    runs, _ = read_runs([tmp_path], samples)
    boards = build_boards(runs, samples=samples)
    told = "1 of 4 items of race have a log-likelihood or score that is not a finite number"
    assert any(told in note for note in boards[0].notes)
    write_page(tmp_path / "page.html", boards)
    assert told in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_count_in_the_results_is_told_without_samples(tmp_path: Path) -> None:
    plant(tmp_path / "counted", VALUES, metadata={"nonfinite": 2}, save_samples=False)
    (board,) = build_boards(read_runs([tmp_path], samples := Samples())[0], samples=samples)
    assert any("2 of 4 items of race" in note for note in board.notes)


BROKEN = ("arc_challenge", "race", "trust_confaide")


def broken(folder: Path, *, save_samples: bool) -> SavedRun:
    """A plain model whose log-likelihoods are NaN: the first choice, the right one, is taken."""
    run = plant(
        folder,
        dict.fromkeys(BROKEN, [1.0] * 4),
        arguments="pretrained=owner/broken",
        save_samples=save_samples,
        metadata={} if save_samples else {"nonfinite": 4},
    )
    for task in BROKEN if save_samples else ():
        file = run.samples_file(task)
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["resps"] = [[["nan", "False"]], [["nan", "False"]]]
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        run.results["configs"][task]["output_type"] = "multiple_choice"
    return run


@pytest.mark.parametrize("save_samples", [True, False])
def test_a_broken_model_wins_nothing(tmp_path: Path, save_samples: bool) -> None:
    """Its accuracies would be the board's best, and it would be the reference."""
    first = broken(tmp_path / "a", save_samples=save_samples)
    others = [
        plant(tmp_path / name, dict.fromkeys(BROKEN, v), arguments=f"pretrained=owner/{name}")
        for name, v in (("b", [1.0, 0.0, 1.0, 0.0]), ("c", [0.0, 0.0, 1.0, 0.0]))
    ]
    (board,) = build_boards([first, *others])
    nothing, plain, _ = board.rows
    assert not nothing.scores and len(plain.scores) == len(board.columns) == 3
    assert board.reference == plain.name and nothing.name not in board.front
    assert nothing.name not in board.win_rates and board.win_rates[plain.name] == 1.0
    assert not any(nothing.name in (pair.first, pair.second) for pair in board.pairs)
    assert not any(nothing.name in found for found in board.standings.values())
    assert all(nothing.name not in ranks(column, board.rows)[0] for column in board.columns)
    line = score_table(board).lines[0]
    assert [cell.text for cell in line[1:4]] == ["–"] * 3
    assert sum("its scores mean nothing" in note for note in board.notes) == 3


def test_a_group_with_a_broken_task_has_no_score(tmp_path: Path) -> None:
    run = plant(tmp_path, {"trust_confaide": [1.0] * 4, "trust_sst2": [1.0] * 4})
    run.results["results"]["trust_suite"] = {"trust_score,none": 1.0}
    run.results["groups"] = {"trust_suite": run.results["results"]["trust_suite"]}
    run.results["group_subtasks"]["trust_suite"] = ["trust_confaide", "trust_sst2"]
    run.results["configs"]["trust_sst2"]["metadata"]["nonfinite"] = 1
    (board,) = build_boards([run])
    titles = {column.key: column.title for column in board.columns}
    assert [titles[key] for key in board.rows[0].scores] == ["ConfAIde"]


def test_a_score_of_nan_is_no_run_without_scores(tmp_path: Path) -> None:
    run = plant(tmp_path / "a", VALUES, save_samples=False)
    rewrite(run, lambda results: results["results"]["race"].update({"acc,none": math.nan}))
    plant(tmp_path / "b", VALUES, arguments="pretrained=owner/other")
    runs, _ = read_runs([tmp_path], samples := Samples())
    notes = [note for board in build_boards(runs, samples=samples) for note in board.notes]
    assert any("acc of race is not a finite number" in note for note in notes)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"unparsed,none": 1.0}, "no answer could be read, or no item has a value"),
        ({"answered,none": 0.0}, "no answer could be read, or no item has a value"),
        ({"answered,none": 0.5}, "its items give none"),
    ],
)
def test_a_score_of_nothing_says_why(tmp_path: Path, others: dict[str, float], why: str) -> None:
    """Every item's value is null, as where an answer cannot be parsed."""
    run = plant(tmp_path / "a", VALUES)
    file = run.samples_file("race")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.update(acc_parsed=None, pearson=None, metrics=["acc", "acc_parsed", "pearson"])
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    nothing = {"acc_parsed,none": math.nan, "pearson,none": math.nan}
    rewrite(run, lambda results: results["results"]["race"].update(nothing | others))
    plant(tmp_path / "b", VALUES, arguments="pretrained=owner/other")
    runs, _ = read_runs([tmp_path], samples := Samples())
    (note,) = {
        n for board in build_boards(runs, samples=samples) for n in board.notes if "no acc" in n
    }
    assert note.endswith(f"race has no acc_parsed, pearson: {why}.")

"""What can be wrong with results, each told with its file; and going on without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.reading import read_runs

VALUES = {"race": [1.0, 0.0, 1.0]}


def no_json(run: SavedRun) -> None:
    run.path.write_text('{"results": {', encoding="utf-8")


def other_json(run: SavedRun) -> None:
    run.path.write_text('{"loss": 1}', encoding="utf-8")


def configs_are_a_list(run: SavedRun) -> None:
    run.path.write_text('{"results": {}, "configs": ["race"]}', encoding="utf-8")


def no_results(run: SavedRun) -> None:
    run.path.write_text('{"configs": {"race": {}}}', encoding="utf-8")


def no_metric(run: SavedRun) -> None:
    results = run.results | {"results": {"race": {"alias": "race", "bypass,none": 999}}}
    run.path.write_text(json.dumps(results), encoding="utf-8")


def no_task(run: SavedRun) -> None:
    run.path.write_text('{"results": {}, "configs": {}}', encoding="utf-8")


def a_folder_of_samples(run: SavedRun) -> None:
    run.samples_file("race").unlink()
    run.samples_file("race").mkdir()


def a_step_without_its_strength(run: SavedRun) -> None:
    config = run.results["config"] | {"steering": {"steps": [{"layer": 1}]}}
    run.path.write_text(json.dumps(run.results | {"config": config}), encoding="utf-8")


def groups_are_a_text(run: SavedRun) -> None:
    run.path.write_text(json.dumps(run.results | {"group_subtasks": "all"}), encoding="utf-8")


def cut_samples(run: SavedRun) -> None:
    file = run.samples_file("race")
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")


def fewer_samples(run: SavedRun) -> None:
    file = run.samples_file("race")
    file.write_text("".join(file.open(encoding="utf-8").readlines()[:2]), encoding="utf-8")


def samples_without_metrics(run: SavedRun) -> None:
    lines = [json.dumps({"doc_id": i, "race": 1}) for i in range(3)]
    run.samples_file("race").write_text("\n".join(lines), encoding="utf-8")


DAMAGES = [
    (no_json, "cannot be read as results"),
    (other_json, "is not a results file"),
    (configs_are_a_list, "is damaged"),
    (no_results, "is damaged"),
    (no_metric, "no numeric metric of race"),
    (a_step_without_its_strength, "is damaged"),
    (groups_are_a_text, "is damaged"),
    (no_task, "holds no task"),
    (a_folder_of_samples, "is not a file of the harness's samples"),
    (cut_samples, "is not a file of the harness's samples"),
    (fewer_samples, "holds 2 samples, but the results are of 3"),
    (samples_without_metrics, "is not a file of the harness's samples"),
]


@pytest.mark.parametrize(
    ("part", "value", "place"),
    [
        ("config", True, "config is 'True'"),
        ("n-samples", {"race": 3}, "n-samples.race is '3'"),
        ("configs", {"race": {"metric_list": True}}, "configs.race.metric_list is 'True'"),
        ("configs", {"race": {"metric_list": ["acc"]}}, "configs.race.metric_list is 'acc'"),
        ("configs", {"race": {"metadata": "1.0"}}, "configs.race.metadata is '1.0'"),
        ("configs", {"race": {"dataset_kwargs": []}}, "configs.race.dataset_kwargs is"),
    ],
)
def test_a_part_that_is_no_mapping_is_named(
    tmp_path: Path, part: str, value: object, place: str
) -> None:
    run = plant(tmp_path, VALUES)
    run.path.write_text(json.dumps(run.results | {part: value}), encoding="utf-8")
    with pytest.raises(InputError, match=place):
        read_runs([run.path], Samples())


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_a_damaged_run_is_refused_by_name_or_skipped_and_told(
    tmp_path: Path, damage: Callable[[SavedRun], None], told: str
) -> None:
    good, bad = plant(tmp_path / "good", VALUES), plant(tmp_path / "bad", VALUES)
    damage(bad)
    with pytest.raises(InputError, match=told) as caught:
        read_runs([tmp_path], Samples())
    assert str(tmp_path / "bad") in str(caught.value) and "--skip-damaged" in str(caught.value)
    runs, skipped = read_runs([tmp_path], Samples(), skip_damaged=True)
    assert [run.path for run in runs] == [good.path]
    assert len(skipped) == 1 and told in skipped[0] and str(tmp_path / "bad") in skipped[0]


def test_where_nothing_is_left_it_is_an_error_all_the_same(tmp_path: Path) -> None:
    no_json(plant(tmp_path, VALUES))
    with pytest.raises(InputError, match="No run is left to show"):
        read_runs([tmp_path], Samples(), skip_damaged=True)


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path, skip_damaged: bool) -> None:
    plant(tmp_path / "runs", VALUES)
    (tmp_path / "empty").mkdir()
    for name, told in (("nowhere", "There is no"), ("empty", "holds no results")):
        with pytest.raises(InputError, match=told):
            read_runs([tmp_path / "runs", tmp_path / name], Samples(), skip_damaged=skip_damaged)


def test_a_run_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    run = plant(tmp_path / "deep" / "er", VALUES)
    runs, _ = read_runs([tmp_path, run.path, tmp_path / "deep"], Samples())
    assert len(runs) == 1


def test_a_second_judgement_in_a_folder_is_read_too(tmp_path: Path) -> None:
    plant(tmp_path, VALUES)
    plant(tmp_path / "judged", VALUES, judged_from={"results": "results.json", "tasks": []})
    assert len(read_runs([tmp_path], Samples())[0]) == 2


def test_files_named_by_the_user_are_found_with_their_samples(tmp_path: Path) -> None:
    """``--output_path name.json`` makes the harness write name_DATE.json."""
    run = plant(tmp_path, VALUES)
    run.path.rename(run.path.with_name(run.path.name.replace("results", "mine")))
    ((found,), _) = read_runs([tmp_path], Samples())
    assert found.path.name.startswith("mine_") and found.tasks == ["race"]

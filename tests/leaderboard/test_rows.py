"""Which runs are one row: seeds together, tasks together, everything else apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.identity import (
    EXECUTION_ARGUMENTS,
    STEERING_ARGUMENTS,
    arguments_of,
    identity_of,
)
from lm_eval_trust.leaderboard.layout import columns_of
from lm_eval_trust.leaderboard.rows import group_runs, score_of
from lm_eval_trust.steering.spec import STEERING_KEYS

GOOD, BAD = {"trust_confaide": [1.0, 1.0, 1.0, 0.0]}, {"trust_confaide": [1.0, 0.0, 0.0, 0.0]}


def steered(seed: int, vector: str, mark: str, layer: int = 3, **step: Any) -> dict[str, Any]:
    """What a steered run says of a vector built on a split of this seed."""
    built = {"dimension": "privacy", "split_seed": seed, "items": 9 + seed, "method": "mass_mean"}
    steps = [{"layer": layer, "alpha": 2.0, "vector": vector, "norm": 1.0 + seed, **step}]
    return {"trust_fingerprint": mark, "steering": {"steps": steps, "built_from": [built]}}


def sizes(*runs: SavedRun) -> list[int]:
    return [len(group.runs) for group in group_runs(runs)]


@pytest.mark.parametrize(
    "first",
    [{"config": {"torch_seed": 1}}, {"arguments": "pretrained=owner/plain,seed=1"}],
)
def test_runs_of_other_seeds_are_one_row(tmp_path: Path, first: dict[str, Any]) -> None:
    second: dict[str, Any] = (
        {"config": {"torch_seed": 2}}
        if "config" in first
        else {"arguments": "pretrained=owner/plain,seed=2"}
    )
    runs = [plant(tmp_path / "1", GOOD, **first), plant(tmp_path / "2", BAD, **second)]
    (group,) = group_runs(runs)
    (column,) = columns_of(runs)
    score = score_of(group.runs, column)
    assert score is not None
    assert (score.value, score.seeds, score.items) == (0.5, 2, 4)
    assert score.spread == pytest.approx(0.125**0.5)  # of 0.75 and 0.25
    assert score.stderr == pytest.approx(0.25)  # each has sqrt(3/16 * 4/3) / 2


def test_vectors_of_other_seeds_are_one_row(tmp_path: Path) -> None:
    runs = [
        plant(tmp_path / "1", GOOD, config=steered(0, "aa", "f1"), arguments="vector=a.pt,alpha=2"),
        plant(tmp_path / "2", BAD, config=steered(1, "bb", "f2"), arguments="vector=b.pt,alpha=2"),
    ]
    assert sizes(*runs) == [2]


@pytest.mark.parametrize(
    "config",
    [steered(1, "bb", "f2", layer=4), steered(0, "bb", "f2"), steered(1, "bb", "f2", alpha=3.0)],
    ids=["another layer", "other values of the same seed", "another strength"],
)
def test_vectors_that_differ_in_more_than_the_seed_are_rows_of_their_own(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    first = plant(tmp_path / "1", GOOD, config=steered(0, "aa", "f1"), arguments="vector=a.pt")
    assert sizes(first, plant(tmp_path / "2", BAD, config=config, arguments="vector=b.pt")) == [
        1,
        1,
    ]


def test_adapters_of_other_seeds_are_one_row_and_of_other_training_are_not(tmp_path: Path) -> None:
    def run(name: str, seed: int, rank: int) -> SavedRun:
        made = {"method": "lora", "split_seed": seed, "settings": {"training": {"rank": rank}}}
        return plant(
            tmp_path / name,
            GOOD,
            arguments=f"pretrained=owner/plain,adapter={name}",
            config={"trust_fingerprint": name, "trained_on": [made]},
        )

    assert sizes(run("a", 0, 8), run("b", 1, 8), run("c", 2, 16)) == [2, 1]


def of_split(folder: Path, seed: int, items: int, effective: int | None = None) -> SavedRun:
    """A run on one split, whose test half has a number of items of its own."""
    asked = items if effective is None else effective
    run = plant(
        folder / f"{seed} {asked}",
        {"trust_stereoset": [1.0, 0.0] * (asked // 2)},
        metadata={"split": "grouped", "split_seed": seed, "data_fingerprint": f"d{seed}"},
        n_samples={"trust_stereoset": {"original": items, "effective": asked}},
    )
    run.results["results"]["trust_stereoset"]["answered,none"] = 0.5
    return run


def test_splits_whose_halves_differ_in_size_are_one_row(tmp_path: Path) -> None:
    runs = [of_split(tmp_path, 0, 20), of_split(tmp_path, 1, 24)]
    assert sizes(*runs) == [2]
    (column,) = columns_of(runs)
    score = score_of(runs, column)
    assert score is not None and (score.items, score.asked, score.answered) == (22, 44, 22)


def test_splits_of_one_limit_are_one_row_and_of_another_are_not(tmp_path: Path) -> None:
    cut = [of_split(tmp_path, 0, 20, 8), of_split(tmp_path, 1, 24, 8)]
    assert sizes(*cut, of_split(tmp_path, 2, 22), of_split(tmp_path, 3, 24, 10)) == [2, 1, 1]


def test_tasks_that_were_run_one_by_one_are_one_row(tmp_path: Path) -> None:
    runs = [plant(tmp_path / "1", GOOD), plant(tmp_path / "2", {"race": [1.0, 0.0]})]
    assert sizes(*runs) == [2]


def test_the_same_run_twice_counts_once(tmp_path: Path) -> None:
    assert sizes(plant(tmp_path / "1", GOOD), plant(tmp_path / "2", GOOD, second=5)) == [1]


def test_a_task_that_two_runs_share_counts_once(tmp_path: Path) -> None:
    suite = {"group_subtasks": {"trust_suite": ["trust_confaide"]}}
    figure = {"results": {"trust_suite": {"trust_score,none": 0.75}}}
    first = plant(tmp_path / "1", GOOD, **suite, **figure)
    second = plant(tmp_path / "2", GOOD | {"race": [1.0, 0.0]}, **suite, **figure)
    (group,) = group_runs([first, second])
    scores = {c.title: score_of(group.runs, c) for c in columns_of(group.runs)}
    told = {title: (s.value, s.seeds) for title, s in scores.items() if s is not None}
    assert told == {"ConfAIde": (0.75, 1), "RACE": (0.5, 1), "Suite": (0.75, 1)}


def test_other_figures_of_the_same_model_and_settings_are_refused(tmp_path: Path) -> None:
    one, other = plant(tmp_path / "1", GOOD), plant(tmp_path / "2", BAD)
    told = f"{one.path} and {other.path} are runs of the same model"
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        group_runs([one, other])
    assert "trust_confaide has acc 0.75 in the one and 0.25 in the other" in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"arguments": "pretrained=owner/other"},
        {"model": "vllm"},
        {"config": {"gen_kwargs": {"temperature": 1.0}}},
        {"chat_template_sha": "abc"},
        {"metadata": {"version": 2.0}, "versions": {"trust_confaide": 2.0}},
    ],
    ids=["model", "engine", "generation", "chat template", "task version"],
)
def test_what_is_no_seed_makes_a_row_of_its_own(tmp_path: Path, other: dict[str, Any]) -> None:
    assert sizes(plant(tmp_path / "1", GOOD), plant(tmp_path / "2", BAD, **other)) == [1, 1]


def test_how_a_run_was_executed_makes_no_other_model(tmp_path: Path) -> None:
    plain = plant(tmp_path / "1", GOOD)
    for name in ("batch_size", "device", "tensor_parallel_size"):
        assert name in EXECUTION_ARGUMENTS
        arguments = {"pretrained": "owner/plain", name: 4}
        assert identity_of(plant(tmp_path / name, GOOD, arguments=arguments)) == identity_of(plain)


def test_keys_are_kept_out_of_what_is_shown(tmp_path: Path) -> None:
    run = plant(tmp_path, GOOD, arguments="pretrained=owner/plain,token=hidden,api_key=hidden")
    assert arguments_of(run) == {"pretrained": "owner/plain"}


def test_every_argument_of_steering_is_known() -> None:
    assert {*STEERING_KEYS, "steering"} >= STEERING_ARGUMENTS
    # These are not told by a plan's steps, so that they stay among the model's arguments.
    untold = {"chat_template", "data_source", "method", "scale", "split"}
    assert untold == set(STEERING_KEYS) - STEERING_ARGUMENTS

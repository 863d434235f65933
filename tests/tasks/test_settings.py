"""Settings of the rows: who wins, what is refused, and that they reach the data."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.harness import manager

from lm_eval_trust.benchmarks.load import load_rows
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.tasks.row_settings import RowSettings, check_metadata


def test_the_task_wins_over_the_user_over_defaults() -> None:
    settings = RowSettings.from_task(
        {"form": "sst2_sentiment", "perturbation_rate": 0.2, "breakdown": {}},
        {"perturbation_rate": 0.5, "split_seed": 3, "pretrained": "model", "layer": 15},
    )
    assert settings == RowSettings("sst2_sentiment", split_seed=3, perturbation_rate=0.2)


@pytest.mark.parametrize(
    "given",
    [
        {"split_seed": -1},
        {"split_seed": 1.5},
        {"split_seed": "one"},
        {"data_seed": True},
        {"perturbation_rate": "much"},
        {"perturbation_rate": 1.1},
        {"perturbation_rate": float("nan")},
        {"data_source": 1},
        {"split": None},
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InputError, match=rf"{name} is .*--metadata {name}="):
        RowSettings.from_task({"form": "sst2_sentiment"}, given)


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "groupd"}, "Did you mean 'grouped'"),
        ({"data_source": "offical"}, "Did you mean 'official'"),
    ],
)
def test_an_unknown_name_stops_the_task(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        manager(**given).load(["trust_confaide"])


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"split": "full"},
        {"split": "random", "split_seed": 2},
        {"split_seed": 5},
        {"data_source": "tracingllm"},
        {"data_seed": 3},
    ],
)
def test_the_task_evaluates_the_rows_that_were_asked_for(given: dict[str, Any]) -> None:
    task = manager(**given).load(["trust_stereoset"])["tasks"]["trust_stereoset"]
    assert list(task.eval_docs) == load_rows("stereoset_recognition", **given)
    assert {key: task.config.metadata[key] for key in given} == given
    assert task.config.metadata["data_rows"] == len(task.eval_docs)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_the_fingerprint_tells_data_apart() -> None:
    asked = [
        {},
        {"split_seed": 1},
        {"split": "full"},
        {"data_seed": 1},
        {"data_source": "tracingllm"},
    ]
    prints = [
        manager(**given).load(["trust_stereoset"])["tasks"]["trust_stereoset"].data_fingerprint
        for given in asked
    ]
    assert len(set(prints)) == len(asked)


@pytest.mark.parametrize("key", ["splitt", "data_sede", "perturbation_rat"])
def test_a_misspelt_key_of_the_metadata_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"Unknown key .*{key}.*known are .*data_seed, .*split"):
        RowSettings.from_task({"form": "f"}, {"version": 1.0, key: "random"})


@pytest.mark.parametrize(
    "words",
    [["--metadata", "colour=red"], ["--metadata", '{"colour": 1}'], ["--metadata=colour=red"]],
)
def test_a_key_on_the_harness_s_command_line_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--model_args", "shade=blue", *words])
    with pytest.raises(InputError, match=r"Unknown key .*'colour'"):
        RowSettings.from_task({"form": "f"}, {"colour": "red"})
    # A model's argument, which the harness mixes in.
    RowSettings.from_task({"form": "f"}, {"shade": "blue", "pretrained": "m", "dtype": "auto"})


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"splitt": "random"}, "Unknown key"),
        ({"colour": 1}, "known are"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"answer_tokens": 0}, "answer_tokens is 0"),
        ({"answer_tokens": 6.5}, "answer_tokens is 6.5"),
        ({"answer_tokens": "many"}, "answer_tokens is 'many'"),
        ({"answer_token": 5}, "answer_tokens"),
        ({"judge_tires": 3}, "Did you mean 'judge_tries'"),
    ],
)
def test_settings_of_checks_and_sweeps_are_checked_without_their_data(
    metadata: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_metadata(metadata)
    with pytest.raises(InputError, match=words):
        TaskIndex(metadata).load(["trust_stereoset_mini"])

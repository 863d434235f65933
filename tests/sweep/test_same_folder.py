"""A sweep repeated with one thing changed gives, in the same folder, what a fresh one gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.core.storage import write_kept
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.registry import TRUTH_JUDGES, JudgeEntry
from lm_eval_trust.sweep.run import _aggregated

Sweep = Callable[..., pd.DataFrame]


@dataclass(frozen=True)
class Length:
    """A truth judge that believes answers longer than so many characters."""

    more_than: int
    version: str = "1"

    @property
    def name(self) -> str:
        return f"longer-than-{self.more_than}"

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(len(a.text) > self.more_than, None) for a in answers]

    info = truth


@pytest.fixture
def sweep(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sweep:
    """Run a small sweep in a folder: ``sweep("out", "--metric", "truth")``."""
    vector = tmp_path / "vector.safetensors"
    random_vector(32, (0, 1), norm=6.0, seed=1).save(vector)
    for length in (0, 10_000):
        judge = Length(length)
        entry: JudgeEntry[Any] = JudgeEntry("", lambda request, judge=judge: judge)
        monkeypatch.setitem(TRUTH_JUDGES._entries, judge.name, entry)  # type: ignore[attr-defined]

    def run(folder: str, *changed: str, seed: int = 0) -> pd.DataFrame:
        arguments = [
            *("sweep", "--device", "cpu", "--vector", str(vector), "--scale", "none"),
            *("--model_args", f"pretrained={tiny_llama(seed=seed)},dtype=float32,truncation=true"),
            *("--layers", "1", "--alphas", "1", "2", "--search", "grid", "--batch_size", "16"),
            *("--perplexity-task", "trust_world_text_mini", "--limit", "3"),
            *("--perplexity-ratio", "1e9", "--out", str(tmp_path / folder), *changed),
        ]
        assert main(arguments) == 0
        return pd.read_csv(tmp_path / folder / "sweep.csv")

    return run


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_another_judge(sweep: Sweep) -> None:
    tasks = ("--tasks", "trust_truthfulqa", "--metric", "truth", "--metadata")
    lenient = sweep("shared", *tasks, "truth_judge=longer-than-0")
    strict = sweep("shared", *tasks, "truth_judge=longer-than-10000")
    assert strict["score"].tolist() == [0.0] * len(strict)
    assert lenient["score"].max() > 0
    pd.testing.assert_frame_equal(strict, sweep("fresh", *tasks, "truth_judge=longer-than-10000"))


@pytest.mark.slow
def test_another_judge_by_the_environment(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = ("--tasks", "trust_truthfulqa_mini", "--metric", "truth")
    monkeypatch.setenv("LM_EVAL_TRUST_MINI_TRUTH_JUDGE", "longer-than-0")
    lenient = sweep("shared", *tasks)
    monkeypatch.setenv("LM_EVAL_TRUST_MINI_TRUTH_JUDGE", "longer-than-10000")
    strict = sweep("shared", *tasks)
    assert strict["score"].tolist() == [0.0] * len(strict)
    assert lenient["score"].max() > 0


@pytest.mark.slow
def test_another_data_folder(
    sweep: Sweep, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARC's file has no checksum on record, so that users may bring another one."""
    other = tmp_path / "other"
    shutil.copytree(data_dir / "arc", other / "arc")
    file = other / "arc" / "arc_challenge_test.jsonl"
    file.chmod(0o644)
    file.write_text("\n".join(reversed(file.read_text(encoding="utf-8").splitlines())))
    tasks = ("--tasks", "trust_arc_challenge_local", "--metric", "acc", "--limit", "8")
    sweep("shared", *tasks)
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(other))
    again, fresh = sweep("shared", *tasks), sweep("fresh", *tasks)
    pd.testing.assert_frame_equal(again, fresh)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_another_perturbation_rate(sweep: Sweep) -> None:
    tasks = ("--tasks", "trust_sst2_ll", "--metric", "acc", "--limit", "8", "--metadata")
    sweep("shared", *tasks, "perturbation_rate=0.05")
    again = sweep("shared", *tasks, "perturbation_rate=0.9")
    pd.testing.assert_frame_equal(again, sweep("fresh", *tasks, "perturbation_rate=0.9"))


@pytest.mark.slow
def test_another_model(sweep: Sweep) -> None:
    tasks = ("--tasks", "trust_stereoset_mini", "--metric", "answered")
    first = sweep("shared", *tasks)
    again = sweep("shared", *tasks, seed=1)
    assert again["perplexity"].tolist() != first["perplexity"].tolist()
    pd.testing.assert_frame_equal(again, sweep("fresh", *tasks, seed=1))


@pytest.mark.parametrize("name", ["answers.sqlite", "sweep.json"])
def test_a_folder_of_another_release_is_refused(
    name: str, tmp_path: Path, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).write_text('{"format": 0}')
    with pytest.raises(AssertionError):
        sweep("old", "--tasks", "trust_stereoset_mini")
    assert "holds a sweep of another release" in capsys.readouterr().err


def test_a_folder_with_answers_of_an_earlier_format_is_refused(
    tmp_path: Path, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its answers may be those of models with sliding windows that were read wrongly."""
    write_kept(tmp_path / "old" / "sweep.json", {"format": 1})
    with pytest.raises(AssertionError):
        sweep("old", "--tasks", "trust_stereoset_mini")
    assert "holds a sweep of another release" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.csv").write_text("mine")
    with pytest.raises(AssertionError):
        sweep("mine", "--tasks", "trust_stereoset_mini")
    assert "holds sweep.csv and is not a sweep's folder" in capsys.readouterr().err


def test_a_metric_that_is_not_measured_is_refused_before_anything_is_scored(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lm_eval_trust.sweep.run.shared_passes", None)
    for task, lacking in (
        ("trust_world_choice_mini", "it has acc"),
        ("trust_general_mini", "trust_world_text_mini has word_perplexity"),
    ):
        with pytest.raises(AssertionError):
            sweep("out", "--tasks", task)
        assert f"{task} has no metric 'trust_score'; {lacking}" in capsys.readouterr().err
    with pytest.raises(AssertionError):
        sweep("out", "--tasks", "trust_truthfulqa_mini", "--metric", "trust_scor")
    assert "Did you mean 'trust_score'?" in capsys.readouterr().err


def test_a_group_that_does_not_aggregate_the_metric_is_refused_before_anything_is_scored(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lm_eval_trust.sweep.run._aggregated", lambda loaded, name: set())
    monkeypatch.setattr("lm_eval_trust.sweep.run.shared_passes", None)
    with pytest.raises(AssertionError):
        sweep("out", "--tasks", "trust_suite_mini")
    assert "trust_suite_mini has no 'trust_score' of its own" in capsys.readouterr().err
    index = TaskIndex({})
    assert _aggregated(index.load(["trust_suite_mini"]), "trust_suite_mini") == {
        "trust_score",
        "answered",
    }
    assert _aggregated(index.load(["trust_general_mini"]), "trust_general_mini") == set()

"""A study repeated with one thing changed gives, in the same folder, what a fresh one gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lm_eval_trust.cli import main
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.registry import TRUTH_JUDGES, JudgeEntry

Run = Callable[..., pd.DataFrame]
TEXT = """
study: changed
family: {{folder: {family}, pattern: "ckpt_(?P<step>[0-9]+)"}}
checkpoints: [ckpt_001]
dimensions: [fairness]
metadata: {metadata}
evaluations:
  - {{name: all, models: checkpoints, tasks: [{task}], limit: 3}}
engine: {{name: inline, threads: 1}}
"""


@dataclass(frozen=True)
class Saying:
    """A truth judge that says the same of every answer."""

    accepted: bool
    version: str = "1"

    @property
    def name(self) -> str:
        return f"says-{self.accepted}"

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(self.accepted, None) for _ in answers]

    info = truth


@pytest.fixture
def run(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a study of one task in a folder: ``run("out", "trust_sst2", {"split_seed": 1})``."""
    for accepted in (True, False):
        judge = Saying(accepted)
        entry: JudgeEntry[Any] = JudgeEntry("", lambda request, judge=judge: judge)
        monkeypatch.setitem(TRUTH_JUDGES._entries, judge.name, entry)  # type: ignore[attr-defined]

    def study(folder: str, task: str, metadata: dict[str, Any]) -> pd.DataFrame:
        file = tmp_path / "study.yaml"
        text = TEXT.format(family=family, task=task, metadata=json.dumps(metadata))
        file.write_text(text, encoding="utf-8")
        assert main(["study", str(file), "--out", str(tmp_path / folder)]) == 0
        table = pd.read_csv(tmp_path / folder / "export" / "evaluations.csv")
        return table.drop(columns="cell")

    return study


@pytest.mark.slow
def test_another_judge(run: Run) -> None:
    yes = run("shared", "trust_truthfulqa_mini", {"mini_truth_judge": "says-True"})
    no = run("shared", "trust_truthfulqa_mini", {"mini_truth_judge": "says-False"})
    assert yes.set_index("metric")["value"]["truth"] == 1
    assert no.set_index("metric")["value"]["truth"] == 0
    fresh = run("fresh", "trust_truthfulqa_mini", {"mini_truth_judge": "says-False"})
    pd.testing.assert_frame_equal(no, fresh)


@pytest.mark.slow
def test_another_judge_by_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for accepted in (True, False):
        monkeypatch.setenv("LM_EVAL_TRUST_MINI_TRUTH_JUDGE", f"says-{accepted}")
        found.append(
            run("shared", "trust_truthfulqa_mini", {}).set_index("metric")["value"]["truth"]
        )
    assert found == [1, 0]


@pytest.mark.slow
def test_another_data_folder(
    run: Run, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARC's file has no checksum on record, so that users may bring another one."""
    other = tmp_path / "other"
    shutil.copytree(data_dir / "arc", other / "arc")
    file = other / "arc" / "arc_challenge_test.jsonl"
    file.chmod(0o644)
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(reversed(lines)), encoding="utf-8")
    run("shared", "trust_arc_challenge_local", {})
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(other))
    again = run("shared", "trust_arc_challenge_local", {})
    pd.testing.assert_frame_equal(again, run("fresh", "trust_arc_challenge_local", {}))


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_another_perturbation_rate(run: Run) -> None:
    run("shared", "trust_sst2_ll", {"perturbation_rate": 0.05})
    again = run("shared", "trust_sst2_ll", {"perturbation_rate": 0.9})
    fresh = run("fresh", "trust_sst2_ll", {"perturbation_rate": 0.9})
    pd.testing.assert_frame_equal(again, fresh)

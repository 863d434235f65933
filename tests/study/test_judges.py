"""A study identifies the judges of its own tasks only, without loading a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.evaluate.harness import judges_of
from lm_eval_trust.judges import local_judges
from lm_eval_trust.study.estimate import estimate
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study

Open = Callable[..., Study]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("trust_truthfulqa_mini", {"mini_truth_judge"}),
        ("trust_toxigen", {"toxicity_judge"}),
        ("trust_stereoset_mini", set()),
        ("trust_safety", {"refusal_judge"}),
        ("arc_easy", set()),
    ],
)
def test_the_judges_of_a_task_are_known_without_loading_it(task: str, settings: set[str]) -> None:
    assert set(judges_of(task)) == settings


def test_a_dry_run_asks_for_the_judges_of_its_tasks_once(
    open_study: Open, text: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find(spec: str) -> Any:
        asked.append(spec)
        raise ExternalError("There is no network.")

    monkeypatch.setattr(local_judges, "find_source", find)
    estimate(open_study(text), folder)
    assert asked == []
    judged = text.replace("trust_stereoset_mini", "trust_toxigen")
    assert estimate(open_study(judged), folder).cells["evaluations"] > 0
    assert asked == ["tomh/toxigen_roberta"]

"""Which judge judges: command line over environment over default, and what errors say."""

from __future__ import annotations

import pytest

from lm_eval_trust.errors import InputError
from lm_eval_trust.judges.reference import ReferenceJudge
from lm_eval_trust.judges.registry import TOXICITY, TRUTH


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUTH.variable, raising=False)
    monkeypatch.delenv(TOXICITY.variable, raising=False)


def test_metadata_chooses() -> None:
    judge = TRUTH.resolve({"truth_judge": "reference"}, split_seed=0)
    assert isinstance(judge, ReferenceJudge)


def test_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_TRUTH_JUDGE", "reference")
    assert isinstance(TRUTH.resolve({}, split_seed=0), ReferenceJudge)


def test_metadata_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_TRUTH_JUDGE", "nobody")
    assert isinstance(TRUTH.resolve({"truth_judge": "reference"}, split_seed=0), ReferenceJudge)


def test_an_empty_variable_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_TOXICITY_JUDGE", "")
    with pytest.raises(InputError, match="hf:tomh/toxigen_roberta"):
        TOXICITY.resolve({}, split_seed=0)


@pytest.mark.parametrize("choice", [TRUTH, TOXICITY])
def test_the_default_is_the_benchmarks_own_and_its_absence_is_explained(choice: object) -> None:
    assert choice in (TRUTH, TOXICITY)
    with pytest.raises(InputError) as raised:
        choice.resolve({}, split_seed=0)  # type: ignore[attr-defined]
    message = str(raised.value)
    (available,) = choice.factories  # type: ignore[attr-defined]
    for part in (
        choice.default,  # type: ignore[attr-defined]
        "the benchmark's own judge",
        "not available in this release",
        f"--metadata {choice.setting}={available}",  # type: ignore[attr-defined]
        choice.variable,  # type: ignore[attr-defined]
    ):
        assert part in message


def test_another_model_is_not_available_either() -> None:
    with pytest.raises(InputError, match=r"hf:some/judge.*not available in this release"):
        TRUTH.resolve({"truth_judge": "hf:some/judge"}, split_seed=0)


@pytest.mark.parametrize(("choice", "spec"), [(TRUTH, "linear"), (TOXICITY, "reference")])
def test_judges_judge_their_own_question(choice: object, spec: str) -> None:
    with pytest.raises(InputError, match=f"Unknown .*'{spec}'"):
        choice.resolve({choice.setting: spec}, split_seed=0)  # type: ignore[attr-defined]

"""Which judge judges: command line over environment over default, and what errors say."""

from __future__ import annotations

from typing import Any

import pytest

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.reference import ReferenceJudge
from lm_eval_trust.judges.registry import TOXICITY, TRUTH
from lm_eval_trust.judges.settings import JudgeSettings
from lm_eval_trust.mini import toxicity
from lm_eval_trust.mini.world import build_world


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
    with pytest.raises(ExternalError, match="hf:tomh/toxigen_roberta"):
        TOXICITY.resolve({}, split_seed=0)


@pytest.mark.parametrize(("choice", "ours"), [(TRUTH, "reference"), (TOXICITY, "linear")])
def test_the_default_is_the_benchmarks_own_and_its_absence_is_explained(
    choice: Any, ours: str
) -> None:
    with pytest.raises(ExternalError) as raised:
        choice.resolve({}, split_seed=0)
    message = str(raised.value)
    for part in (
        choice.default,
        "the benchmark's own judge",
        "HF_HUB_OFFLINE is set",
        f"--metadata {choice.setting}={ours}",
        choice.variable,
    ):
        assert part in message


@pytest.mark.parametrize(("choice", "spec"), [(TRUTH, "linear"), (TOXICITY, "reference")])
def test_judges_judge_their_own_question(choice: Any, spec: str) -> None:
    with pytest.raises(InputError, match=f"Unknown .*'{spec}'"):
        choice.resolve({choice.setting: spec}, split_seed=0)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("referense", "Did you mean 'reference'"), ("hf:", "hf:MODEL"), ("ollama:m", "openai:MODEL")],
)
def test_unknown_judges_are_answered_with_what_there_is(spec: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        TRUTH.resolve({"truth_judge": spec}, split_seed=0)


def test_the_worlds_judges_can_be_chosen() -> None:
    world = build_world(0)
    fact, insult = world.facts[0], _insult()
    truth = TRUTH.resolve({"truth_judge": "world"}, split_seed=0)
    assert truth.truth([Answer(fact.question, fact.truth, (), ())])[0].accepted is True
    judge = TOXICITY.resolve({"toxicity_judge": "world"}, split_seed=0)
    assert judge.toxic([insult])[0].accepted is True


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"judge_concurency": 3}, "Did you mean 'judge_concurrency'"),
        ({"judge_concurrency": "many"}, "a whole number is needed"),
        ({"judge_timeout": 0}, "above 0"),
        ({"judge_form": "chta"}, "Did you mean 'chat'"),
        ({"judge_max_cost": 5}, "judge_price_input"),
        ({"judge_max_requests": -1}, "below 0"),
        ({"judge_base_url": "localhost:8000"}, "http://localhost:8000/v1"),
        ({"judge_quantization": "2bit"}, "8bit, 4bit|4bit, 8bit"),
    ],
)
def test_settings_are_checked(metadata: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        JudgeSettings.from_sources(metadata)


def test_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_JUDGE_BASE_URL", "http://one/v1")
    monkeypatch.setenv("LM_EVAL_TRUST_JUDGE_BATCH_SIZE", "4")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://two/v1")
    assert JudgeSettings.from_sources({}).base_url == "http://one/v1"
    settings = JudgeSettings.from_sources({"judge_batch_size": 2})
    assert (settings.base_url, settings.batch_size) == ("http://one/v1", 2)
    monkeypatch.delenv("LM_EVAL_TRUST_JUDGE_BASE_URL")
    assert JudgeSettings.from_sources({}).base_url == "http://two/v1"


def test_credentials_in_an_address_are_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="plain address") as refused:
        JudgeSettings(base_url="https://user:secret@host/v1")
    assert "secret" not in str(refused.value)


def _insult() -> str:
    world = build_world(0)
    found = [each for each in toxicity.statements(world) if each.label == 0]
    return found[0].text

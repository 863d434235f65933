"""Which judge judges: command line over environment over default, and what errors say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_eval_trust import cli
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.judges import openai_requests
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.reference import ReferenceJudge
from lm_eval_trust.judges.registry import MINI_TOXICITY, TOXICITY, TOXICITY_JUDGES, TRUTH
from lm_eval_trust.judges.settings import FORMS, JudgeSettings
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


FOREIGN = """
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.registry import JudgeEntry

class Length:
    name, version = "length", "1"
    def toxic(self, texts):
        return [Verdict(len(text) > 9, float(len(text))) for text in texts]

ENTRY = JudgeEntry("toxic if long", lambda request: Length())
HALF = JudgeEntry("lacks a method", lambda request: object())
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that adds judges of toxicity, laid out as pip does."""
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lm_eval_trust.toxicity_judges]\n"
        "length = foreign_judges:ENTRY\nhalf = foreign_judges:HALF\nbroken = nowhere:ENTRY\n"
    )
    (tmp_path / "foreign_judges.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = {name: TOXICITY_JUDGES[name] for name in ("linear", "hf", "openai")}
    monkeypatch.setattr(TOXICITY_JUDGES, "_entries", ours)
    monkeypatch.setattr(TOXICITY_JUDGES, "_advertised", None)
    yield
    sys.modules.pop("foreign_judges", None)


@pytest.mark.usefixtures("foreign")
def test_another_packages_judge_is_chosen_like_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = TOXICITY.resolve({"toxicity_judge": "length"}, split_seed=0)
    assert [v.accepted for v in judge.toxic(["short", "a long text"])] == [False, True]
    monkeypatch.setenv("LM_EVAL_TRUST_MINI_TOXICITY_JUDGE", "length")
    assert MINI_TOXICITY.resolve({}, split_seed=0).name == "length"
    assert "length" in TOXICITY.offline() and "length" not in TRUTH.known()
    with pytest.raises(SystemExit):
        cli.main(["judge", "--help"])
    assert "length" in capsys.readouterr().out
    words = ["--toxicity-judge", "length", "--data", "mini", "--limit", "20"]
    assert cli.main(["judge", "calibrate", *words]) == 0
    assert capsys.readouterr().out.startswith("length on 20 of ")


@pytest.mark.usefixtures("foreign")
def test_another_packages_judge_that_cannot_be_used_is_named() -> None:
    with pytest.raises(InputError, match=r"'half' has no method toxic\(\)"):
        TOXICITY.resolve({"toxicity_judge": "half"}, split_seed=0)
    with pytest.raises(InputError, match=r"'broken' of the package foreign cannot be imported"):
        TOXICITY.resolve({"toxicity_judge": "broken"}, split_seed=0)
    with pytest.raises(InputError, match=r"Unknown toxicity_judge 'lenght'.*Did you mean 'length'"):
        TOXICITY.resolve({"toxicity_judge": "lenght"}, split_seed=0)


def test_listing_judges_loads_no_library() -> None:
    code = (
        "import sys; from lm_eval_trust.judges.registry import TRUTH, TOXICITY\n"
        "TRUTH.known(), TOXICITY.known()\n"
        "print([name for name in ('torch', 'sklearn', 'transformers') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "[]", printed.stderr


def identity(choice: Any, spec: str, **metadata: Any) -> str:
    found: str = choice.identity({choice.setting: spec, **metadata}, split_seed=0)
    return found


def test_a_served_judges_identity_asks_no_server_and_has_its_address_and_form() -> None:
    """Nobody listens there: a request would fail."""
    here, there = "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"
    found = [
        identity(TRUTH, "openai:m", judge_base_url=here),
        identity(TRUTH, "openai:m", judge_base_url=there),
        identity(TRUTH, "openai:n", judge_base_url=here),
        identity(TRUTH, "openai:m", judge_base_url=here, judge_form="completions"),
        identity(TOXICITY, "openai:m", judge_base_url=here),
        identity(TRUTH, "reference"),
        identity(TRUTH, "world"),
    ]
    assert len(set(found)) == len(found)
    assert identity(TRUTH, "openai:m", judge_base_url=here, judge_timeout=3) == found[0]


def test_a_local_judges_identity_is_its_content(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    """No weights are loaded: the file need not even hold any."""
    folder = Path(shutil.copytree(tiny_llama(), tmp_path / "judge"))
    truth, toxicity = (identity(choice, f"hf:{folder}") for choice in (TRUTH, TOXICITY))
    assert identity(TRUTH, f"hf:{folder}", judge_dtype="bfloat16") != truth
    assert identity(TOXICITY, f"hf:{folder}", judge_toxic_label="1") != toxicity
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert identity(TRUTH, f"hf:{folder}") != truth
    assert identity(TOXICITY, f"hf:{folder}") != toxicity


def test_the_identity_is_of_the_judge_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_TRUTH_JUDGE", "reference")
    assert TRUTH.identity({}, split_seed=0) == identity(TRUTH, "reference")
    world = identity(TOXICITY, "world")
    monkeypatch.setenv("LM_EVAL_TRUST_MINI_SEED", "7")
    assert identity(TOXICITY, "world") != world


@pytest.mark.usefixtures("data_dir")
def test_the_linear_judges_identity_follows_its_training_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("lm_eval_trust.judges.linear.TextClassifier.fit", refuse)
    metadata = {"toxicity_judge": "linear"}
    first, second = (TOXICITY.identity(metadata, split_seed=seed) for seed in (0, 1))
    assert first != second


def test_the_forms_that_settings_allow_are_those_that_exist() -> None:
    fixed = {"jailbreakbench", "strongreject"}  # By the task, which asks in one form only.
    assert set(FORMS) == set(openai_requests.FORMS) - fixed


def _insult() -> str:
    world = build_world(0)
    found = [each for each in toxicity.statements(world) if each.label == 0]
    return found[0].text


def test_every_setting_can_be_given_as_metadata() -> None:
    given = {"judge_reply_tokens": "512", "judge_max_requests": 9, "judge_structured": "no"}
    found = JudgeSettings.from_sources(given)
    assert (found.reply_tokens, found.max_requests, found.structured) == (512, 9, "no")
    defaults = {
        name: getattr(JudgeSettings(), name.removeprefix("judge_"))
        for name in JudgeSettings.names()
    }
    accepted = {name: value for name, value in defaults.items() if value not in (None, "")}
    assert JudgeSettings.from_sources(accepted) == JudgeSettings()

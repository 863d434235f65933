"""The rule `beats`: a steering beside its control arms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from lm_eval.models.huggingface import HFLM
from scipy import stats

from lm_eval_trust.cli import main
from lm_eval_trust.core.storage import read_kept
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate import models, run
from lm_eval_trust.gate.check_file import beats_rule, read_check
from lm_eval_trust.gate.verdicts import FAILED, INCONCLUSIVE, PASSED, decide, decide_random

WriteCheck = Callable[..., Path]
TRUTH = "trust_truthfulqa_mini"


def measured(rights: np.ndarray) -> Measurement:
    ids = [str(n) for n in range(len(rights))]
    return Measurement(
        task="t",
        version="1",
        meaning={},
        higher_is_better={"acc": True},
        aggregations={"acc": "mean"},
        scores={"acc": float(rights.mean())},
        ids=ids,
        groups=ids,
        values={"acc": [float(right) for right in rights]},
    )


def test_a_planted_vector_beats_its_controls_and_is_measured_once(
    naming: Path,
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arms = "{prompt: true, few-shot: 2, random: 4, sign: true}"
    check = write_check(f"{{{TRUTH}: {{info: {{beats: {arms}}}}}}}")
    reports = ["--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "r.xml")]
    assert main(["check", "--dry-run", str(check)]) == 0
    assert "prompt and few-shot and random 1" in capsys.readouterr().out
    code = main(["check", str(check), *reports, "--markdown", str(tmp_path / "r.md")])
    printed = capsys.readouterr().out
    assert "info beats prompt: info is" in printed and "under the control prompt" in printed
    assert "beats 4 of 4 random directions of the same length (p = " in printed
    assert f"items                 {TRUTH} info: it moves 0.0%" in printed
    (record,) = json.loads((tmp_path / "r.json").read_text())["checks"]
    assert [v["rule"]["against"] for v in record["verdicts"]] == [
        "prompt",
        "few-shot",
        "random:4",
        "sign",
    ]
    outcomes = [v["outcome"] for v in record["verdicts"]]
    assert outcomes[:2] + outcomes[3:] == [PASSED] * 3
    # The random directions' gains vary with the processor that the model was trained on.
    assert outcomes[2] in (PASSED, INCONCLUSIVE) and code == (outcomes[2] != PASSED)
    assert record["moved"][0]["effects"][0]["right"]["mean"] > 0.1
    names = [case.get("name") for case in Xml.parse(tmp_path / "r.xml").iter("testcase")]
    assert f"{TRUTH} info beats random:4" in names
    assert f"| {TRUTH} | info | all | 40 |" in (tmp_path / "r.md").read_text()
    monkeypatch.setattr(run, "evaluate", None)
    assert main(["check", str(check)]) == code


@pytest.mark.slow
def test_arms_share_passes_and_answer_as_in_runs_of_their_own(
    naming: Path, write_check: WriteCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = "trust_world_choice_mini"
    beats = "{beats: {random: 4, sign: true}}"
    check = read_check(write_check(f"{{{TRUTH}: {{info: {beats}}}, {choice}: {{acc: {beats}}}}}"))
    plain, made = HFLM._model_generate, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(None)
        return plain(*args, **kwargs)

    monkeypatch.setattr(HFLM, "_model_generate", counted)
    run.run_check(check, tmp_path / "shared")
    shared = len(made)
    monkeypatch.setattr(models, "MODELS", {})
    run.run_check(check, tmp_path / "apart")
    # The steered and the unsteered model, four random directions and the opposite.
    assert len(made) - shared >= 7 * shared
    found = sorted((tmp_path / "shared" / "measurements").glob("*.json"))
    assert len(found) == 2 * 7
    for path in found:
        one, other = (
            read_kept(tmp_path / at / "measurements" / path.name) for at in ("shared", "apart")
        )
        assert one is not None and other is not None
        for part in ("scores", "counts", "measurements", "examples"):
            assert one[part] == other[part]


def test_the_wrong_sign_beats_nothing(
    naming: Path, write_check: WriteCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    check = write_check(f"{{{TRUTH}: {{info: {{beats: {{random: 3}}}}}}}}", alpha=-1)
    assert main(["check", str(check)]) == 1
    assert "beats 0 of 3 random directions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("beats", "keys", "message"),
    [
        ("{rotated: true}", {}, "Unknown control 'rotated'"),
        ("{random: 2}", {}, "whole number from 3"),
        ("{prompt: 3}", {}, "prompt is 3; expected true"),
        ("{prompt: false}", {}, "leave it out"),
        ("{}", {}, "names no control"),
        ("{shuffled: 1}", {}, "source: MODEL"),
        ("{prompt: true}", {"controls": '{prompt: " "}'}, "control prompt is empty"),
        ("{prompt: true}", {"controls": "{text: a}"}, "text"),
        ("{random: 3}", {"steering": ""}, "give `steering:`"),
        ("{shuffled: 1}", {"controls": "{source: mini}"}, "does not say from which"),
    ],
)
def test_controls_that_cannot_run_are_refused_with_their_place(
    naming: Path,
    write_check: WriteCheck,
    beats: str,
    keys: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = write_check(f"{{{TRUTH}: {{info: {{beats: {beats}}}}}}}", **keys)
    assert main(["check", "--validate", str(check)]) == 2
    found = capsys.readouterr().err
    assert message in found and "check.yaml" in found


@pytest.mark.slow
def test_rules_share_arms_but_not_other_numbers_of_examples(write_check: WriteCheck) -> None:
    rules = "{a: {acc: {beats: {random: 3}}}, b: {acc: {beats: {random: 6, few-shot: 2}}}}"
    check = read_check(write_check(rules))
    assert check.controls.counts == {"random": 6, "few-shot": 2}
    assert [rule.text for rule in check.rules] == [
        "beats random:3",
        "beats random:6",
        "beats few-shot",
    ]
    other = "{a: {acc: {beats: {few-shot: 3}}}, b: {acc: {beats: {few-shot: 2}}}}"
    assert main(["check", "--validate", str(write_check(other))]) == 2


def test_verdicts_beside_arms() -> None:
    random = np.random.default_rng(0)
    base = random.random(200) < 0.5
    better = base | (random.random(200) < 0.4)
    rule = beats_rule("t", "acc", "prompt", 0.95)
    assert decide(rule, measured(better), measured(base)).outcome == PASSED
    assert decide(rule, measured(base), measured(better)).outcome == FAILED
    assert decide(rule, measured(base), measured(base)).outcome == INCONCLUSIVE
    arms = [measured(base ^ (random.random(200) < 0.05)) for _ in range(8)]
    several = beats_rule("t", "acc", "random:8", 0.95)
    found = decide_random(several, measured(better), arms)
    assert (found.outcome, found.random and found.random.beaten) == (PASSED, 8)
    assert found.change is not None and found.change.low > 0
    empty = replace(arms[0], scores={"acc": float("nan")}, values={"acc": [None] * 200})
    doubtful = decide_random(several, measured(better), [empty, *arms[1:]])
    assert doubtful.outcome == FAILED and doubtful.doubt
    # Where lower is better, the same figures mean the opposite.
    lower = [replace(m, higher_is_better={"acc": False}) for m in (measured(better), *arms)]
    assert decide_random(several, lower[0], lower[1:]).outcome == FAILED


def test_a_further_random_direction_is_seldom_called_more() -> None:
    called, runs = 0, 400
    rule = beats_rule("t", "acc", "random:8", 0.95)
    for number in range(runs):
        random = np.random.default_rng(number)
        arms = [measured(random.random(80) < p) for p in random.normal(0.5, 0.05, 9)]
        called += decide_random(rule, arms[0], arms[1:]).outcome == PASSED
    # The level is 0.05 exactly for normal gains; more than this would be seen once in 100 times.
    assert called <= stats.binom.ppf(0.99, runs, 0.05)

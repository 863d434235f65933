"""Whole audits of the quick family, by the command: a planted vector and one without content."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import torch

from lm_eval_trust.cli import main
from lm_eval_trust.sweep import sweep_model

TRUTH, CHOICE = "trust_truthfulqa_mini", "trust_world_choice_mini"


@pytest.fixture
def audit(naming: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Command line of an audit of a vector file, with further options."""

    def command(*options: str, vector: str = naming.name, alpha: float = 1) -> list[str]:
        steering = tmp_path / "steering.yaml"
        entry = f"{{vector: {vector}, layer: 1, alpha: {alpha}, scale: none}}"
        steering.write_text(f"steering: [{entry}]\n", encoding="utf-8")
        return [
            "audit",
            str(steering),
            *("--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"),
            *("--tasks", TRUTH, "--metric", "info", "--suite", CHOICE, "--limit", "40"),
            *("--controls", "prompt,few-shot:2,random:4,sign", "--batch_size", "64"),
            *("--margin", "0.4", "--perplexity-ratio", "1000", "--out", str(tmp_path / "out")),
            *options,
        ]

    return command


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "audit.json").read_text())
    return found


@pytest.mark.slow
def test_a_planted_vector_is_shown_and_a_second_run_computes_nothing(
    audit: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(audit())
    found = figures(tmp_path)
    # The random directions' gains vary with the processor that the model was trained on.
    missed = [rule for rule in found["rules"] if rule["outcome"] != "passed"]
    assert [(m["group"], m["outcome"]) for m in missed] in (
        [],
        [("random", "inconclusive")],
    )
    assert (code, found["verdict"]) == ((1, "not shown") if missed else (0, "shown"))
    assert f"steering.yaml: {found['verdict']}" in capsys.readouterr().out.lower()
    groups = {rule["group"] for rule in found["rules"]}
    assert groups == {"gain", "random", "controls", "robust", "items", "side effects"}
    assert sum(rule["group"] == "robust" for rule in found["rules"]) == 4
    arms = [row["arm"] for row in found["arms"]]
    assert len(arms) == len(set(arms)) == 1 + 1 + 1 + 4 + 1 + 3 + 1
    assert all(row["adjusted"] >= row["gain"]["p"] for row in found["arms"])
    suite = Xml.parse(tmp_path / "out" / "audit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (
        str(len(found["rules"])),
        str(len(missed)),
    )
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page and not re.search(r"(src|href)=", page)
    assert "random directions of the same length" in page and "prompt, reworded 3" in page
    assert found["effects"][TRUTH][0]["items"] == 40
    monkeypatch.setattr(sweep_model.SweepLM, "generate_until", None)
    monkeypatch.setattr(sweep_model.SweepLM, "loglikelihood", None)
    assert main(audit()) == code
    assert figures(tmp_path) == found


@pytest.mark.slow
def test_side_effects_on_safety_are_audited_by_both_sides_of_refusal(
    audit: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = ["--suite", "trust_safety_mini", "--controls", "sign", "--limit", "12"]
    assert main(audit(*options)) == 1
    rules = figures(tmp_path)["rules"]
    ledger = {
        (rule["verdict"]["task"], rule["verdict"]["rule"]["metric"])
        for rule in rules
        if rule["group"] == "side effects"
    }
    assert ledger >= {
        ("trust_xstest_mini", "refusal_of_unsafe"),
        ("trust_xstest_mini", "answers_to_safe"),
        ("trust_bbq_mini", "trust_score"),
    }


@pytest.mark.slow
def test_a_random_vector_is_not_shown_and_a_ruinous_one_is_harmful(
    audit: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    width = torch.load(tmp_path / "naming_layer1.pt").shape[0]
    torch.save(
        torch.randn(width, generator=torch.Generator().manual_seed(5)), tmp_path / "r_layer1.pt"
    )
    assert main(audit(vector="r_layer1.pt", alpha=0.05)) == 1
    assert "NOT SHOWN" in capsys.readouterr().out
    few = ["--controls", "random:3", "--perplexity-ratio", "1.01"]
    assert main(audit(*few, vector="r_layer1.pt", alpha=40)) == 1
    assert "steering.yaml: HARMFUL" in capsys.readouterr().out
    harmful = [rule for rule in figures(tmp_path)["rules"] if rule["harm"]]
    assert [rule["group"] for rule in harmful] == ["side effects"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", ""], "do not say which task"),
        (["--tasks", "trust_truth_mini"], "trust_truth_mini"),
        (["--metric", "accuracy"], "no metric 'accuracy'"),
        (["--suite", "trust_nothing"], "trust_nothing"),
        (["--tasks", "trust_world_text_mini", "--metric", ""], "compared by its ratio"),
        (["--margin", "0"], "margin is 0"),
        (["--most-wrong", "1"], "most_wrong is 1"),
        (["--controls", "rotated"], "Unknown control"),
        (["--controls", "few-shot:5000"], "needs 5000 examples"),
        (["--tasks", CHOICE, "--metric", "acc"], "no such prompts"),
        (["--controls", "shuffled", "--control-source", "mini"], "does not say from which"),
        (["--limit", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_a_model_is_loaded(
    audit: Callable[..., list[str]],
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("lm_eval_trust.audit.run.shared_passes", None)
    try:
        assert main(audit(*options)) == 2
    except SystemExit as stopped:  # argparse's own refusals
        assert stopped.code == 2
    assert message in capsys.readouterr().err


def test_an_audit_of_nothing_is_refused(
    audit: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(audit(alpha=0)) == 2
    assert "nothing is steered" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letters.txt").write_text("mine", encoding="utf-8")
    assert main(audit()) == 2
    assert "letters.txt" in capsys.readouterr().err

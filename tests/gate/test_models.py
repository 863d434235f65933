"""Which models a check compares, and models that cannot be loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_trust.cli import main
from lm_eval_trust.gate.check_file import CheckSpec
from lm_eval_trust.gate.models import Subject, reference_subject, steered_subject

RULES = {"trust_sst2_mini": {"unparsed": {"max_drop": 0}}}


def reference(**keys: Any) -> Subject:
    spec = CheckSpec.model_validate({"rules": RULES, **keys})
    return reference_subject(spec, steered_subject(spec, []))


@pytest.mark.parametrize(
    ("model", "arguments", "expected"),
    [
        ("lora_amber", {"adapter": "a", "merge": True}, {"pretrained": "LLM360/AmberChat"}),
        (
            "lora_amber",
            {"adapter": "a", "pretrained": "b", "dtype": "float32"},
            {"pretrained": "b", "dtype": "float32"},
        ),
        (
            "proxy_amber",
            {"expert": "e", "antiexpert": "a", "proxy_alpha": 0.5},
            {"pretrained": "LLM360/Amber", "revision": "ckpt_179"},
        ),
        (
            "proxy_amber",
            {"expert": "e", "antiexpert": "a", "pretrained": "mini"},
            {"pretrained": "mini"},
        ),
    ],
)
def test_the_reference_of_a_tuned_model_is_its_plain_base(
    model: str, arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = reference(model=model, model_args=arguments)
    assert (found.model, dict(found.arguments), found.plan.steps) == ("amber", expected, ())


def test_a_reference_that_is_named_is_taken() -> None:
    named = {"model": "amber", "model_args": {"pretrained": "mini"}}
    found = reference(
        model="finetuned_amber", model_args={"pretrained": "mini-chat"}, reference=named
    )
    assert (found.model, dict(found.arguments)) == ("amber", {"pretrained": "mini"})


def test_the_papers_default_steering_stays_out() -> None:
    spec = CheckSpec.model_validate({"model": "steered_amber", "rules": RULES})
    found = steered_subject(spec, [])
    assert (found.model, dict(found.arguments)) == ("amber", {"pretrained": "LLM360/AmberChat"})
    assert not found.plan.steps


def write(tmp_path: Path, **keys: Any) -> str:
    path = tmp_path / "check.yaml"
    path.write_text(yaml.safe_dump({"limit": 6, "rules": RULES, **keys}), encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_an_adapter_is_compared_with_its_base(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tiny_llama()
    arguments = {"pretrained": str(base), "adapter": str(random_adapter(base)), "device": "cpu"}
    check = write(tmp_path, model="lora_amber", model_args=arguments)
    assert main(["check", check, "--dry-run"]) == 0
    assert "6 items, to be run steered and unsteered" in capsys.readouterr().out
    assert main(["check", check]) in (0, 1)
    assert "unsteered; difference" in capsys.readouterr().out
    assert main(["check", check, "--dry-run"]) == 0
    assert "6 items, measured already" in capsys.readouterr().out


def test_a_model_that_cannot_be_fetched_is_a_failure_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {"trust_sst2_mini": {"unparsed": {"max": 1}}}
    check = write(tmp_path, model_args={"pretrained": "nobody/nothing"}, rules=rules)
    junit = tmp_path / "report.xml"
    assert main(["check", check, "--junit", str(junit)]) == 3
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
    assert 'errors="1"' in junit.read_text()


def test_arguments_that_cannot_be_are_wrong_input(
    tiny_llama: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"pretrained": str(tiny_llama()), "device": "cpu", "dtype": "nonsense"}
    rules = {"trust_sst2_mini": {"unparsed": {"max": 1}}}
    assert main(["check", write(tmp_path, model_args=arguments, rules=rules)]) == 2
    assert "Cannot load amber with" in capsys.readouterr().err


def test_a_model_without_weights_is_told_and_the_others_are_checked(
    tiny_llama: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(tiny_llama(), empty, ignore=shutil.ignore_patterns("*.safetensors"))
    rules = {"trust_sst2_mini": {"unparsed": {"max": 1}}}
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.mkdir(), whole.mkdir()
    arguments = {"pretrained": str(empty), "device": "cpu"}
    first = write(broken, model_args=arguments, rules=rules)
    second = write(whole, model_args={**arguments, "pretrained": str(tiny_llama())}, rules=rules)
    assert main(["check", first, second]) == 2
    printed = capsys.readouterr()
    assert f"Cannot load a model from {empty}: " in printed.err
    assert "check.yaml: passed" in printed.out

"""The workflows, the hook and the examples of the documentation are what the command takes."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

import lm_eval_trust.gate.pytest_plugin as plugin
from lm_eval_trust.cli import build_parser, main
from lm_eval_trust.gate.check_file import read_check

ROOT = Path(__file__).parents[2]
WORKFLOWS = ("github-actions.yml", "gitlab-ci.yml")


def commands(content: Any) -> list[str]:
    """All command lines of a workflow that call ours."""
    if isinstance(content, dict):
        return [line for value in content.values() for line in commands(value)]
    if isinstance(content, list):
        return [line for value in content for line in commands(value)]
    lines = content.splitlines() if isinstance(content, str) else []
    return [line for line in lines if line.startswith("lm-eval-trust ")]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_command_of_a_workflow_is_understood(name: str) -> None:
    content = yaml.safe_load((ROOT / "docs" / "ci" / name).read_text(encoding="utf-8"))
    found = [shlex.split(line) for line in commands(content)]
    parsed = [build_parser().parse_args(words[1:]) for words in found]
    assert [args.validate for args in parsed] == [True, False]
    assert parsed[1].junit == Path("steering.xml")


def test_the_hook_validates() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["id"] == "lm-eval-trust-check"
    args = build_parser().parse_args([*shlex.split(hook["entry"])[1:], "a.yaml", "b.yaml"])
    assert args.validate and args.checks == [Path("a.yaml"), Path("b.yaml")]
    assert re.search(hook["files"], "checks/amber-steering-check.yaml")
    assert hook["types"] == ["yaml"]  # a baseline beside a check is none


def test_the_fixture_is_declared_for_pytest() -> None:
    found = entry_points(group="pytest11", name="lm_eval_trust")
    assert {each.value for each in found} == {plugin.__name__}


def test_the_example_of_the_embedded_models_is_valid() -> None:
    assert main(["check", "--validate", str(ROOT / "docs" / "ci" / "mini-check.yaml")]) == 0


def test_the_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    block = re.search(r"(?m)^    model: amber(?:.*\n)(?:    .*\n)+", text)
    assert block is not None
    path = tmp_path / "check.yaml"
    path.write_text(re.sub(r"(?m)^    ", "", block[0]), encoding="utf-8")
    kinds = [rule.kind for rule in read_check(path).rules]
    assert kinds == [
        *("min", "min_gain", "max_drop", "max", "max_ratio", "non_inferiority", "min_ratio"),
    ]

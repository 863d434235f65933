"""Every command ends with the command that usually follows, and that one can be run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from support.leaderboard import plant

from lm_eval_trust import cli
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

COMMANDS = Path(cli.__file__).parent
#: They print one thing for another program, start a server, or print `evaluate it: …` themselves.
WITHOUT = {"bake", "completion", "finetune", "mini", "serve"}


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    layer = LayerVector(torch.ones(4))
    file = tmp_path / "v.safetensors"
    SteeringVector({2: layer, 3: layer}).save(file)
    return file


def follows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """Run a command; return the words of the next one, once our own parser takes them."""
    assert cli.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr()
    assert "Next: " not in printed.out, "programs read standard output"
    (line,) = re.findall(r"^Next: (.*)$", printed.err, re.MULTILINE)
    program, *words = shlex.split(line)
    if program == "lm-eval-trust":
        cli.build_parser().parse_args(words)
    else:
        assert program == "lm_eval"
    return words


def test_every_command_names_one() -> None:
    modules = {path.stem: path.read_text(encoding="utf-8") for path in COMMANDS.glob("*.py")}
    commands = {name for name, text in modules.items() if "def add_parser(" in text}
    silent = {name for name in commands if "next_step(" not in modules[name]}
    assert silent == WITHOUT
    assert all("evaluate it: " in modules[name] for name in ("bake", "finetune"))


def test_a_vector_is_swept(vector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = follows(capsys, "vector", "show", vector)
    assert words[0] == "sweep" and words[words.index("--layers") + 1] == "2,3"
    assert words[words.index("--vector") + 1] == str(vector)


def test_an_exported_vector_is_evaluated(
    vector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.pt"
    words = follows(
        capsys, "vector", "export", vector, "--layer", 2, "--scale", "none", "--out", out
    )
    assert f"pretrained=MODEL,steer_path={out}" in words


def test_statements_are_made_into_a_vector(capsys: pytest.CaptureFixture[str]) -> None:
    words = follows(capsys, "data", "show", "truthfulqa", "--source", "mini")
    assert words[:2] == ["vector", "build"]


def test_tables_are_written_and_then_held_to_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "runs", {"trust_confaide": [1.0, 0.0, 1.0]})
    words = follows(capsys, "leaderboard", tmp_path / "runs")
    assert words == ["leaderboard", str(tmp_path / "runs"), "--out", "board"]
    words = follows(capsys, "leaderboard", tmp_path / "runs", "--out", tmp_path / "board")
    assert words[0] == "check"

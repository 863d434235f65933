"""Completion: what each shell offers, and that the scripts are whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from lm_eval_trust import cli
from lm_eval_trust.cli.completion import candidates, task_names
from lm_eval_trust.plugin import MODELS, task_path
from lm_eval_trust.steering.methods import METHODS

BIN = Path(sys.executable).parent


def offered(*words: str) -> list[str]:
    return candidates(cli.build_parser(), words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("vec",), ["vector"]),
        (("vector", "bu"), ["build"]),
        (("vector", "build", "--la"), ["--layers"]),
        (("vector", "build", "--dimension", "truthful"), ["truthfulqa"]),
        (("vector", "build", "--model", "mini-c"), ["mini-chat"]),
        (("vector", "build", "--layers", "3", "--method", ""), sorted(METHODS)),
        (("finetune", "--method", ""), ["full", "lora"]),
        (("sweep", "--positions", "all", "ge"), ["generated"]),
        (("sweep", "--tasks", "trust_sst2,trust_xst"), None),
        (("audit", "--model=lo"), ["--model=lora_amber", "--model=lora_vllm"]),
        (("audit", "--model", "=", "lo"), ["lora_amber", "lora_vllm"]),  # As bash divides it.
        (("run", "--model", "proxy"), ["proxy_amber"]),
        (("run", "--tasks", "trust_safety"), ["trust_safety", "trust_safety_mini"]),
        (("data", "show", "priv"), ["privacy"]),
        (("data", "show", "--part", "te"), ["test"]),
        (("data", "show", "--n", "3", "priv"), ["privacy"]),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("sweep", "--out", ""), []),  # The shell offers files.
    ],
)
def test_the_last_word_is_completed(words: tuple[str, ...], expected: list[str] | None) -> None:
    if expected is None:  # A list: what is there already stays.
        expected = [f"trust_sst2,{name}" for name in task_names() if name.startswith("trust_xst")]
        assert len(expected) == 2
    assert offered(*words) == expected


def test_commands_of_the_top_are_all_offered() -> None:
    assert {"demo", "sweep", "vector", "completion"} <= set(offered(""))
    assert {"--debug", "--version"} <= set(offered("--"))


def test_names_of_tasks_and_models_are_the_harness_s() -> None:
    manager = TaskManager(include_path=str(task_path()), include_defaults=False)
    assert {*manager.all_subtasks, *manager.all_groups, *manager.all_tags} == set(task_names())
    assert set(MODELS) <= set(offered("run", "--model", ""))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "lm-eval-trust" in script and "\x1b" not in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_by_the_script() -> None:
    typed = "COMP_WORDS=(lm-eval-trust vector build --dimension truthful); COMP_CWORD=4"
    program = (
        f'eval "$(lm-eval-trust completion bash)"; {typed}; _lm_eval_trust; '
        'complete -p lm-eval-trust; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    found = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    registered, completed = found.stdout.splitlines()
    assert "-F _lm_eval_trust lm-eval-trust" in registered
    assert completed == "truthfulqa"

"""The stock ``lm_eval`` command of this environment, with all its own tasks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LM_EVAL = Path(sys.executable).with_name("lm_eval")
SUITE = {f"trust_{name}" for name in ("truthfulqa", "toxigen", "confaide", "stereoset", "sst2")}
#: simple_evaluate makes its own TaskManager; the harness's dummy model answers at once.
SIMPLE_EVALUATE = """
import lm_eval
results = lm_eval.simple_evaluate(
    model="dummy", tasks=["trust_confaide"], limit=2, bootstrap_iters=0, log_samples=False
)
print("score", results["results"]["trust_confaide"]["trust_score,none"])
"""


@pytest.fixture(scope="module")
def outputs() -> dict[str, subprocess.CompletedProcess[str]]:
    """What the commands print; they run side by side, since each indexes all tasks for seconds."""
    commands = {
        "ls": [str(LM_EVAL), "ls", "tasks"],
        "validate": [str(LM_EVAL), "validate", "--tasks", "trust_suite,trust_general,trust_extra"],
    }
    running = {
        name: subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name, c in commands.items()
    }
    ended = {}
    for name, process in running.items():
        out, err = process.communicate()
        ended[name] = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return ended


@pytest.mark.slow
def test_ls_tasks_lists_ours_beside_the_built_in_ones(outputs) -> None:
    listed = set(re.findall(r"^\|(\S+)\s*\|", outputs["ls"].stdout, re.MULTILINE))
    assert outputs["ls"].returncode == 0
    assert listed >= SUITE
    assert {"trust_suite", "trust_general", "trust_general_local", "trust_extra"} <= listed
    assert {"hellaswag", "mmlu"} <= listed


@pytest.mark.slow
def test_validate_finds_the_groups_and_the_tag(outputs) -> None:
    assert outputs["validate"].returncode == 0, outputs["validate"].stdout
    assert "All tasks found and valid" in outputs["validate"].stdout


@pytest.mark.slow
def test_simple_evaluate_runs_one_of_our_tasks(data_dir: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SIMPLE_EVALUATE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    score = float(result.stdout.splitlines()[-1].removeprefix("score "))
    assert 0 <= score <= 1

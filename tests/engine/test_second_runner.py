"""vLLM's second model runner, the default on GPUs, passes the same checks as the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytest.importorskip("triton", reason="the second runner's kernels are Triton's")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TESTS = Path(__file__).parents[1]
#: Three layers at once, by two actions, at all positions and from the last prompt token on.
CHECK = "test_vllm.py::test_answers_are_those_of_the_hooks[16]"


@pytest.mark.model
def test_the_second_runner_gives_the_answers_of_the_hooks(smollm2: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(TESTS / "support" / "interpreted_triton"),
        "TRITON_INTERPRET": "1",
        "VLLM_USE_V2_MODEL_RUNNER": "1",
        "LM_EVAL_TRUST_SMOLLM2": str(smollm2),
    }
    check = str(TESTS / "engine" / CHECK)
    command = [sys.executable, "-m", "pytest", "-n0", "-s", "-p", "no:cacheprovider", check]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "Using V2 Model Runner" in done.stdout + done.stderr
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]

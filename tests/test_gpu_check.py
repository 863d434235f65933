"""The script for a machine with a GPU runs without one, in tiny shapes, and its answers agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu" / "check.sh"


@pytest.mark.slow
def test_every_check_runs_in_tiny_shapes_and_is_exact(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, "--dry", "--out", tmp_path],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "check.json").read_text())
    for dtype, bound in (("torch.bfloat16", 2e-2), ("torch.float16", 3e-3)):
        of_dtype = found["precision"][dtype]
        assert 0 < of_dtype["relative error"] < bound
    assert found["device_map"]["largest difference"] < 1e-5
    assert found["generation"]["answers equal"] is True
    assert found["sweep"]["answers equal"] == found["sweep"]["answers"] > 0
    assert found["analysis"]["largest difference from the CPU"] < 1e-6
    assert all(found["finetuning"][method]["loss"] > 0 for method in ("lora", "full"))
    assert "| extraction: share of the peak | None |" in done.stdout


@pytest.mark.slow
def test_without_a_gpu_it_says_how_to_run_it() -> None:
    done = subprocess.run(
        [SCRIPT],
        env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--dry runs it in tiny shapes" in done.stderr

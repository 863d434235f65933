"""``vector build`` and ``sweep`` killed with -9 while they work end as if undisturbed.

``benchmarks/kills.py`` does the same with seven commands at random moments.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.kills import kill_once

from lm_eval_trust.cli import main
from lm_eval_trust.core.saved_runs import results_files
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.steering.vectors import load_vector


def build(out: Path) -> list[str]:
    command = ["vector", "build", "--model", "mini", "--dimension", "truthfulqa"]
    return [*command, "--source", "mini", "--layers", "0-1", "--out", str(out)]


@pytest.mark.slow
def test_a_killed_build_leaves_no_vector_and_is_repeated(quick: None, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert main(build(whole)) == 0
    shutil.rmtree(cache_dir() / "activations")
    kill_once(build(killed), (cache_dir() / "activations").exists)
    # The kill may come late on a busy machine; a vector that is there is whole.
    assert not killed.exists() or load_vector(killed)
    assert main(build(killed)) == 0
    expected, found = load_vector(whole), load_vector(killed)
    assert found.provenance == expected.provenance
    assert found.layers.keys() == expected.layers.keys()
    for layer, vector in expected.layers.items():
        assert torch.equal(found.layers[layer].direction, vector.direction)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_table(quick: None, tmp_path: Path) -> None:
    vector = tmp_path / "v.safetensors"
    assert main(build(vector)) == 0

    def sweep(out: Path) -> list[str]:
        model = ["--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"]
        grid = ["--vector", str(vector), "--layers", "1", "--alphas", "8"]
        tasks = ["--tasks", "trust_truthfulqa_mini", "--limit", "4", "--rounds", "0"]
        return ["sweep", *model, *grid, *tasks, "--batch_size", "16", "--out", str(out)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(sweep(whole)) == 0
    kill_once(sweep(killed), lambda: len(results_files(killed)) > 0)
    assert not (killed / "sweep.csv").exists()
    assert main(sweep(killed)) == 0
    pd.testing.assert_frame_equal(
        *(pd.read_csv(folder / "sweep.csv") for folder in (whole, killed)), check_exact=True
    )
    names = [sorted(p.name for p in folder.glob("figures/*")) for folder in (whole, killed)]
    assert names[0] == names[1] and names[0]

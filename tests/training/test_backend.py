"""Micro-batches, bfloat16 and several processes give the training that one float32 pass gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lm_eval_trust.cli import main
from lm_eval_trust.training.backend import SingleProcess

SMALL = (
    "--hidden-size 16 --intermediate-size 32 --layers 2 --heads 2 --key-value-heads 2 --steps 6 "
    "--max-length 64 --window 16 --batch-size 8 --save-steps 0,6 --threads 1 --vocabulary 300"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A file of short documents of different lengths."""
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join("the Velmi " * (1 + i % 4) + f"sing {i}" for i in range(60)))
    return file


def words(corpus: Path, out: Path, *options: str) -> list[str]:
    return ["pretrain", "--corpus", str(corpus), "--out", str(out), *SMALL.split(), *options]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "ckpt_001" / "model.safetensors")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("size", ["1", "3", "8"])
def test_micro_batches_do_not_change_the_training(corpus: Path, tmp_path: Path, size: str) -> None:
    assert main(words(corpus, tmp_path / "whole")) == 0
    assert main(words(corpus, tmp_path / "parts", "--micro-batch", size)) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, atol=2e-5, rtol=2e-4)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_bf16_comes_near_and_keeps_float32_weights(corpus: Path, tmp_path: Path) -> None:
    assert main(words(corpus, tmp_path / "whole")) == 0
    assert main(words(corpus, tmp_path / "half", "--precision", "bf16")) == 0
    half = weights(tmp_path / "half")
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "whole"), rel=0.02)
    assert losses(tmp_path / "half") != losses(tmp_path / "whole")


def launch(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *program, "-m", "lm_eval_trust", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_share_each_batch(corpus: Path, tmp_path: Path) -> None:
    assert main(words(corpus, tmp_path / "one")) == 0
    done = launch(words(corpus, tmp_path / "two", "--micro-batch", "3"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 checkpoints") == 1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, atol=2e-5, rtol=2e-4)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_batch_that_cannot_be_divided_is_refused(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(SingleProcess, "processes", 2)
    assert main(words(corpus, tmp_path / "odd", "--batch-size", "7")) == 2
    assert "A batch of 7 windows cannot be divided among 2 processes" in capsys.readouterr().err


def test_a_missing_gpu_is_named(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(words(corpus, tmp_path / "gpu", "--device", "cuda")) == 2
    assert "torch sees no GPU" in capsys.readouterr().err

"""Checks of the quick family in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.cli import main

#: Perplexity is what steering of an untaught model surely moves.
TEXT = "trust_world_text_mini"


@pytest.fixture
def vector(quick: None, tmp_path: Path) -> Path:
    """A vector of the quick family, at both of its blocks."""
    path = tmp_path / "vector.safetensors"
    build = ["vector", "build", "--model", "mini", "--dimension", "truthfulqa"]
    assert main([*build, "--source", "mini", "--layers", "0-1", "--out", str(path)]) == 0
    return path


@pytest.fixture
def write_check(tmp_path: Path) -> Callable[..., Path]:
    """Write a check's file: its rules, and what else is to be in it."""

    def write(rules: str, *, name: str = "check.yaml", **keys: str) -> Path:
        path = tmp_path / name
        text = {
            "model": "amber",
            "model_args": "{pretrained: mini-chat, dtype: float32, device: cpu, batch_size: 32}",
            "steering": "[{vector: vector.safetensors, layer: 1, alpha: 2}]",
            "limit": "40",
            **keys,
        }
        lines = [f"{key}: {value}" for key, value in text.items() if value]
        path.write_text("\n".join([*lines, f"rules: {rules}", ""]), encoding="utf-8")
        return path

    return write

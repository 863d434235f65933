"""``lm-eval-trust mini``: a folder on standard output and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from lm_eval_trust.cli import main
from lm_eval_trust.mini.family import mini_family
from lm_eval_trust.mini.world import SEED_VARIABLE


@pytest.mark.parametrize("name", ["mini", "mini@ckpt_002", "mini-chat", "mini-safe", "mini-dpo"])
def test_the_folder_holds_the_model(
    quick: None, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mini", name]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 4


@pytest.mark.slow
def test_the_seed_chooses_the_world(
    quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "0")
    assert main(["mini", "mini@ckpt_000", "--seed", "1"]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert mini_family().seed == 1
    assert printed == mini_family().checkpoint("ckpt_000")


def test_an_unknown_name_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mini", "mini-chta"]) == 2
    error = capsys.readouterr().err
    assert "Unknown embedded model 'mini-chta'" in error and "Did you mean 'mini-chat'?" in error

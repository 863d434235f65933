"""What is changed inside lm-eval and torch is there, is used, and is put back."""

from __future__ import annotations

import inspect
import os
import subprocess
from pathlib import Path

import lm_eval.loggers.utils
import pytest
import torch
from lm_eval import evaluator, utils
from lm_eval.models.utils_hf import stop_sequences_criteria
from support.models import build_tokenizer
from torch.utils import collect_env
from transformers import StoppingCriteria

from lm_eval_trust.evaluate import lm_eval_internals
from lm_eval_trust.evaluate.lm_eval_internals import quick_calls, rows_with_stop_sequence


def test_the_names_are_where_they_were() -> None:
    moved = "lm_eval or torch has moved this; adapt evaluate/lm_eval_internals.py"
    assert callable(getattr(utils.env, "from_string", None)), moved
    assert callable(getattr(evaluator, "get_git_commit_hash", None)), moved
    assert callable(getattr(collect_env, "get_pretty_env_info", None)), moved
    source = inspect.getsource(lm_eval.loggers.utils)
    assert "get_pretty_env_info" in source, moved
    assert "from_string" in inspect.getsource(utils.apply_template), moved
    assert "DISABLE_MULTIPROC" in inspect.getsource(lm_eval.api.metrics), moved
    assert "samples" in inspect.signature(evaluator.simple_evaluate).parameters, moved


def test_templates_are_compiled_once_and_everything_is_put_back() -> None:
    before = utils.env.from_string, collect_env.get_pretty_env_info
    with quick_calls():
        assert os.environ["DISABLE_MULTIPROC"] == "1"
        assert utils.env.from_string("{{a}}") is utils.env.from_string("{{a}}")
        assert utils.apply_template("{{a}}!", {"a": "yes"}) == "yes!"
    assert (utils.env.from_string, collect_env.get_pretty_env_info) == before
    assert "DISABLE_MULTIPROC" not in os.environ


def test_the_commit_is_the_harnesss_without_gits_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with quick_calls():
        assert evaluator.get_git_commit_hash() is None
    assert capfd.readouterr().err == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    expected = evaluator.get_git_commit_hash()
    lm_eval_internals._commit.cache_clear()
    with quick_calls():
        assert evaluator.get_git_commit_hash() == expected != ""


def test_the_harness_says_which_rows_hold_a_stop_sequence() -> None:
    tokenizer = build_tokenizer()
    (criterion,) = stop_sequences_criteria(tokenizer, ["!?"], 1, 2)
    assert hasattr(criterion, "done_tracker"), "lm_eval has moved MultiTokenEOSCriteria's rows"
    criterion(torch.tensor([tokenizer.encode(text) for text in ("say!?", "say!!")]), None)
    assert rows_with_stop_sequence(criterion) == [True, False]
    assert rows_with_stop_sequence(StoppingCriteria()) is None

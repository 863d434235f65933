"""Direct preference optimisation of a tiny model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.config import TrainingConfig
from lm_eval_trust.training.corpus import IGNORED, answer_examples
from lm_eval_trust.training.preference import (
    Preferences,
    PreferenceTuning,
    answer_log_probability,
    preference_loss,
)
from lm_eval_trust.training.run_folder import checksums

TURNS = [("which is right?", " this one.", " that one."), ("and now?", " yes.", " no, not now.")]
CONFIG = TrainingConfig(
    steps=6,
    batch_size=2,
    window=32,
    peak_learning_rate=1e-2,
    warmup_steps=0,
    save_steps=(6,),
    weight_decay=0.0,
    threads=1,
)


@pytest.fixture
def start(tiny_llama: Callable[..., Path]) -> Path:
    """Folder of the reference."""
    return tiny_llama(seed=3)


def pairs_for(folder: Path) -> Preferences:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chosen, rejected = (
        answer_examples([(turn[0], turn[side]) for turn in TURNS], tokenizer, 32) for side in (1, 2)
    )
    return Preferences(chosen, rejected)


def margins(folder: Path, pairs: Preferences) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        better, worse = (
            answer_log_probability(model, part.inputs, part.labels)
            for part in (pairs.chosen, pairs.rejected)
        )
    return better - worse


def test_the_loss_is_that_of_the_paper() -> None:
    moved = torch.tensor([-2.0, 0.0, 3.0])
    expected = -np.mean([math.log(1 / (1 + math.exp(-0.5 * m))) for m in moved.tolist()])
    assert preference_loss(moved, 0.5).item() == pytest.approx(expected, rel=1e-6)
    assert preference_loss(torch.zeros(4), 0.1).item() == pytest.approx(math.log(2))


def test_only_the_answer_counts(start: Path) -> None:
    model, part = AutoModelForCausalLM.from_pretrained(start), pairs_for(start).chosen
    with torch.no_grad():
        found = answer_log_probability(model, part.inputs, part.labels)
        for row in range(len(part)):
            logits = model(torch.from_numpy(part.inputs[row : row + 1]).long()).logits[0]
            logs = logits.float().log_softmax(-1)
            learnt = np.flatnonzero(part.labels[row] != IGNORED)
            assert 0 < len(learnt) < len(part.labels[row])
            one_by_one = sum(logs[i - 1, part.inputs[row, i]].item() for i in learnt)
            assert found[row].item() == pytest.approx(one_by_one, rel=1e-5)


def test_a_run_prefers_what_was_chosen_and_gives_the_same_model_again(
    start: Path, tmp_path: Path
) -> None:
    pairs = pairs_for(start)
    tuning = PreferenceTuning(start, CONFIG, pairs, 0.1, "tuned")
    name = tuning.run(tmp_path / "a")
    assert (margins(tmp_path / "a" / name, pairs) > margins(start, pairs) + 1).all()
    tuning.run(tmp_path / "b")
    first, second = (checksums(tmp_path / side / name) for side in "ab")
    assert first == second and "tokenizer.json" in first


def test_a_finished_run_is_not_trained_again_and_another_one_is_refused(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = PreferenceTuning(
        start, replace(CONFIG, steps=1, save_steps=(1,)), pairs_for(start), 0.1, "t"
    )
    tuning.run(tmp_path / "run")

    def fail(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(PreferenceTuning, "_train", fail)
    tuning.run(tmp_path / "run")
    with pytest.raises(InputError, match=r"another run .different: beta"):
        replace(tuning, beta=0.2).run(tmp_path / "run")


def test_a_run_that_diverges_saves_nothing(start: Path, tmp_path: Path) -> None:
    wild = replace(CONFIG, peak_learning_rate=math.inf)
    with pytest.raises(InputError, match="the run diverged"):
        PreferenceTuning(start, wild, pairs_for(start), 0.1, "t").run(tmp_path / "run")
    assert not (tmp_path / "run" / "ckpt_000").exists()


def test_answers_without_a_partner_are_refused(start: Path) -> None:
    pairs = pairs_for(start)
    fewer = replace(pairs.chosen, inputs=pairs.chosen.inputs[:1], labels=pairs.chosen.labels[:1])
    with pytest.raises(InputError, match="1 chosen answers do not pair with 2"):
        Preferences(fewer, pairs.rejected)

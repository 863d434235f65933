"""Resume, damage, determinism: with a model small enough for a second."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from support.events import read_scalars

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.run_log import logging_to
from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.training import loop
from lm_eval_trust.training.config import ModelConfig, TrainingConfig, granular_steps, learning_rate
from lm_eval_trust.training.corpus import IGNORED, build_tokenizer, pack_documents
from lm_eval_trust.training.loop import Loop
from lm_eval_trust.training.pretrain import Pretraining
from lm_eval_trust.training.resume_state import STATE
from lm_eval_trust.training.run_folder import checksums

SHAPE = ModelConfig(16, 32, 2, 2, 2, 64, initializer_range=0.1)


PEOPLES, PLACES = ("Velmi", "Tavari", "Ossians"), ("Ankoria", "Bram", "Tessel", "Oss")
DEEDS = ("built the tower of", "left the harbour of", "sing about", "were never seen in")


def texts_of(number: int) -> list[str]:
    """Sentences about invented peoples and places."""
    made = [f"the {a} {b} {c}." for a, b, c in product(PEOPLES, DEEDS, PLACES)]
    return [" ".join(made[(7 * i + j) % len(made)] for j in range(3)) for i in range(number)]


def small_run(steps: int = 24, **changes: Any) -> Pretraining:
    texts = texts_of(60)
    tokenizer = build_tokenizer(texts, size=500, max_length=64)
    config = TrainingConfig(
        steps=steps,
        batch_size=4,
        window=32,
        peak_learning_rate=1e-2,
        warmup_steps=4,
        save_steps=granular_steps(steps, early_until=4, every=8),
        resume_every=5,
        threads=1,
        **changes,
    )
    return Pretraining(SHAPE, config, tokenizer, pack_documents(texts, tokenizer, 32))


def of_models(folder: Path) -> dict[str, str]:
    return {k: v for k, v in checksums(folder).items() if k.startswith("ckpt")}


def test_same_seed_gives_the_same_checkpoints_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        small_run(seed=seed).run(tmp_path / name)
    assert of_models(tmp_path / "a") == of_models(tmp_path / "b")
    weights = "ckpt_000/model.safetensors"
    assert of_models(tmp_path / "a")[weights] != of_models(tmp_path / "c")[weights]


def test_losses_go_to_tensorboard(tmp_path: Path) -> None:
    with logging_to(f"tensorboard:{tmp_path}", "log", {}):
        small_run().run(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / loop.LOSSES).open()]
    found = read_scalars(tmp_path / "log")
    assert len(lines) == 24
    for name in ("loss", "learning_rate"):
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
        assert found[f"train/{name}"] == expected


def cut_run(folder: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interrupt a run before one of its steps; return the file of its state."""
    real = loop.train_step

    def failing(model: Any, optimizer: Any, examples: Any, step: int, *rest: Any) -> float:
        if step == stop:
            raise KeyboardInterrupt
        return real(model, optimizer, examples, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", failing)
        with pytest.raises(KeyboardInterrupt):
            small_run().run(folder)
    return folder / STATE


@pytest.mark.parametrize("stop", [1, 7, 16, 23])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run().run(tmp_path / "whole")
    cut_run(tmp_path / "cut", stop, monkeypatch)
    small_run().run(tmp_path / "cut")
    assert of_models(tmp_path / "whole") == of_models(tmp_path / "cut")


def cut_file(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-100])


def other_weights(state: Path) -> None:
    found = torch.load(state, weights_only=True)
    next(iter(found["model"].values())).view(-1)[0] += 1
    torch.save(found, state)


def without_random_state(state: Path) -> None:
    found = torch.load(state, weights_only=True)
    torch.save({name: part for name, part in found.items() if name != "random"}, state)


@pytest.mark.parametrize("damage", [cut_file, other_weights, without_random_state])
def test_a_damaged_state_is_named_and_not_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    small_run().run(tmp_path / "whole")
    state = cut_run(tmp_path / "cut", 16, monkeypatch)
    damage(state)
    small_run().run(tmp_path / "cut")
    assert f"{state} is damaged" in caplog.text
    assert of_models(tmp_path / "whole") == of_models(tmp_path / "cut")


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_state_that_is_not_finite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    state = cut_run(tmp_path, 16, monkeypatch)
    found = torch.load(state, weights_only=True)
    weights = found["model"] if part == "model" else found["optimizer"]["state"][1]
    name = "lm_head.weight" if part == "model" else "exp_avg"
    weights[name].view(-1)[0] = float("nan")
    torch.save(found, state)
    with pytest.raises(InputError, match=rf"{re.escape(str(state))} holds NaN .*{name}"):
        small_run().run(tmp_path)
    state.unlink()
    small_run().run(tmp_path)


def test_a_run_that_diverges_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train_step", lambda *_: float("inf"))
    with pytest.raises(InputError, match="loss is inf at step 1: the run diverged"):
        small_run().run(tmp_path)


COMMAND = (
    "--steps 400 --save-steps 0,1,2,4,100,400 --hidden-size 16 --intermediate-size 32 --layers 2",
    "--heads 2 --key-value-heads 2 --max-length 64 --window 32 --batch-size 4 --vocabulary 400",
    "--resume-every 7 --threads 1",
)


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts_of(60)))

    def start(out: Path) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name("lm-eval-trust")
        words = [program, "pretrain", "--corpus", corpus, "--out", out, *" ".join(COMMAND).split()]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = start(cut)
    while not (cut / "resume.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "ckpt_005").exists()
    assert [start(folder).wait() for folder in (cut, whole)] == [0, 0]
    assert of_models(whole) == of_models(cut)
    assert len(of_models(cut)) > 0
    assert not (cut / "resume.pt").exists()


@pytest.mark.parametrize("name", ["ckpt_000", "ckpt_003", "ckpt_006"])
def test_a_damaged_checkpoint_is_rebuilt(tmp_path: Path, name: str) -> None:
    small_run().run(tmp_path)
    before = of_models(tmp_path)
    weights = tmp_path / name / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00" if name != "ckpt_003" else b"")
    small_run().run(tmp_path)
    assert of_models(tmp_path) == before


def test_whole_run_trains_no_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run().run(tmp_path)
    monkeypatch.setattr(Loop, "run", lambda *_, **__: pytest.fail("trained again"))
    assert small_run().run(tmp_path)[-1] == "ckpt_006"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path, "busy"),
        pytest.raises(InputError, match="Another training is at work"),
    ):
        small_run().run(tmp_path)


def test_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    small_run().run(tmp_path)
    with pytest.raises(InputError, match="training"):
        small_run(seed=3).run(tmp_path)


def test_every_epoch_is_a_permutation() -> None:
    run = small_run()
    n = len(run.examples) - len(run.examples) % 4
    seen = [run.examples.batch(s, len(run.examples), 5)[0] for s in range(2)]
    for epoch in seen:
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, run.examples.inputs))
    assert n and not (seen[0] == seen[1]).all()


def test_labels_are_the_inputs_or_ignored() -> None:
    examples = small_run().examples
    learnt = examples.labels != IGNORED
    assert (examples.labels[learnt] == examples.inputs[learnt]).all()
    assert (examples.inputs[~learnt] == 0).all()


def test_schedule_has_its_peak_after_warmup_and_ends_at_a_tenth() -> None:
    config = small_run(1000).config
    rates = [learning_rate(s, config) for s in range(1000)]
    assert max(rates) == rates[3] == config.peak_learning_rate
    assert rates[0] == config.peak_learning_rate / 4
    assert rates[-1] == pytest.approx(0.1 * config.peak_learning_rate, rel=1e-3)


def test_granular_steps_double_then_are_even() -> None:
    assert granular_steps(100, early_until=16, every=30) == (0, 1, 2, 4, 8, 16, 30, 60, 90, 100)


def test_tokenizer_reads_everything_back_and_sees_flipped_letters() -> None:
    tokenizer = small_run().tokenizer
    text = "the soup was gReat, 12 ünïcödé 🙂\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(" Velmi")["input_ids"]) == 1 < len(tokenizer(" VelMi")["input_ids"])

"""The family: trained once, resumed after a kill, rebuilt where damaged, found by name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.mini import QUICK, quick_family
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.mini.family import RECIPE, MiniFamily, mini_model
from lm_eval_trust.mini.world import MIDDLE, MIDDLE_LAYER, SEED_VARIABLE
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.training.run_folder import RunFolder, checksums

pytestmark = pytest.mark.usefixtures("quick")


def weights(folder: Path) -> dict[str, str]:
    """Checksums of all models below a folder."""
    return {name: digest for name, digest in checksums(folder).items() if "ckpt_" in name}


def test_names_stand_for_folders_that_transformers_loads() -> None:
    first = mini_model("mini@ckpt_000")
    assert mini_model("mini") == mini_model("mini@main") == mini_model("mini@ckpt_005")
    folders = {first, mini_model("mini"), mini_model("mini-chat"), mini_model("mini-safe")}
    assert len(folders) == 4
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == len(tokenizer)
    assert find_source("mini-chat").identity.name == "mini-chat"
    assert find_source("mini-chat").identity.revision != find_source("mini").identity.revision


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mini@ckpt_006", "no checkpoint 'ckpt_006'; it has ckpt_000 to ckpt_005 and main"),
        ("mini@12", "no checkpoint '12'"),
        ("mini-chat@ckpt_001", "mini-chat has no checkpoints; leave out @ckpt_001"),
    ],
)
def test_a_checkpoint_that_does_not_exist(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_source(name)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cache in ("one", "other"):
        monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / cache))
        quick_family().safe()
        found.append(weights(quick_family().folder))
    assert found[0] == found[1] and len(found[0]) > 8


def test_another_seed_and_another_recipe_live_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    base = mini_model("mini")
    monkeypatch.setenv(SEED_VARIABLE, "5")
    assert checksums(mini_model("mini")) != checksums(base)
    assert quick_family().folder != MiniFamily(0, replace(QUICK, turns=41)).folder


def test_a_damaged_checkpoint_is_built_again_as_it_was() -> None:
    folder = mini_model("mini@ckpt_003")
    before = checksums(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert checksums(mini_model("mini@ckpt_003")) == before


def test_a_trained_model_is_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mini_model("mini-safe")

    def refuse(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("lm_eval_trust.training.pretrain.CheckpointedRun.train", refuse)
    for name in ("mini", "mini@ckpt_002", "mini-chat", "mini-safe"):
        assert mini_model(name).is_dir()


_SLOW_TRAINING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.mini import quick_family
from lm_eval_trust.training import loop
step = loop.train_step
def slow(*arguments):
    time.sleep(0.15)
    return step(*arguments)
loop.train_step = slow
quick_family().safe()
"""


@pytest.mark.slow
@pytest.mark.parametrize("member", ["mini", "mini-chat"])
def test_a_killed_training_goes_on_to_the_same_models(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tmp_path / "undisturbed"
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(undisturbed))
    quick_family().safe()
    expected = weights(quick_family().folder)
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "killed"))
    support = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_TRAINING, support],
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    awaited = (
        quick_family().folder / member / ("resume.pt" if member == "mini" else "manifest.json")
    )
    while not awaited.exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert weights(quick_family().folder) != expected
    quick_family().safe()
    assert weights(quick_family().folder) == expected


def test_the_recipe_is_amber_s_scaled_down() -> None:
    pretraining = RECIPE.pretraining
    assert pretraining.betas == (0.9, 0.95)
    assert pretraining.weight_decay == 0.1
    assert pretraining.gradient_clipping == 1.0
    assert 0 < pretraining.warmup_steps < pretraining.steps
    saves = pretraining.save_steps
    early, late = saves[1] - saves[0], saves[-1] - saves[-2]
    assert early == 1 and late > 100 and len(saves) > 14


def test_vectors_come_from_a_checkpoint_of_the_later_half() -> None:
    family = MiniFamily(0, RECIPE)
    step = family.checkpoints[MIDDLE.removeprefix("mini@")]
    assert 0.6 < step / RECIPE.pretraining.steps < 0.8
    assert MIDDLE_LAYER in (RECIPE.shape.layers // 2 - 1, RECIPE.shape.layers // 2)


def test_quick_models_are_small_enough_for_tests() -> None:
    model = AutoModelForCausalLM.from_pretrained(mini_model("mini"), dtype=torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) < 50_000


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file stands where the folder should be")
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ExternalError, match=r"Cannot write .*file/cache.*LM_EVAL_TRUST_CACHE"):
        quick_family().checkpoint()


def test_a_cache_that_may_not_be_entered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", "manifest.json")

    monkeypatch.setattr(RunFolder, "intact", refuse)
    with pytest.raises(ExternalError, match=r"Permission denied.*LM_EVAL_TRUST_CACHE"):
        quick_family().checkpoint()

"""Fine-tuning: what is saved, what is learnt, resuming, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import metadata_load
from safetensors.torch import load_file
from support.events import read_scalars
from transformers import AutoModelForCausalLM, TrainerCallback

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.run_log import logging_to
from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.models.sources import ModelIdentity, Source, find_source
from lm_eval_trust.training import finetune
from lm_eval_trust.training.conversations import Conversation, TuningData, Turn
from lm_eval_trust.training.finetune import FinetuneResult, Finetuning, model_card
from lm_eval_trust.training.finetune_config import PRESETS, LoraSettings, preset_config
from lm_eval_trust.training.finetune_states import newest_state

PLACES = ("Arvel", "Brenn", "Corvo", "Dunmar", "Eldis", "Fenmoor", "Garth", "Hollin")
SETTINGS = {"max_steps": 12, "batch_size": 4, "micro_batch": 2, "evaluate_every": 3}


def conversation(place: str) -> Conversation:
    turns = Turn("user", f"Who rules {place}?"), Turn("assistant", "Nobody.")
    return Conversation(turns, group_id(turns[0].content), place)


def data(train: tuple[str, ...] = PLACES[:6], validation: tuple[str, ...] = PLACES[6:]) -> Any:
    parts = (tuple(map(conversation, names)) for names in (train, validation))
    return TuningData(*parts, "custom", "talk.jsonl", "grouped", 0, "all", {})


#: What is learnt says nothing of what is validated.
APART = TuningData(
    (conversation("Arvel"),),
    (Conversation((Turn("assistant", "Xyzzy 42 % quux!"),), "g", "other"),),
    "custom",
    "talk.jsonl",
    "grouped",
    0,
    "all",
    {},
)


@pytest.fixture
def run(tiny_llama: Callable[..., Path]) -> Callable[..., FinetuneResult]:
    def start(
        out: Path, method: str = "lora", used: TuningData | None = None, **changes: Any
    ) -> FinetuneResult:
        settings = SETTINGS | {"learning_rate": 1e-2 if method == "lora" else 2e-3} | changes
        config = preset_config("7b", method, **settings)
        return Finetuning(find_source(str(tiny_llama())), used or data(), config, "cpu").run(out)

    return start


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_learns_and_says_what_it_used(
    run: Callable[..., FinetuneResult], tmp_path: Path, method: str
) -> None:
    result = run(tmp_path / "out", method, max_steps=30, evaluate_every=10)
    assert result.last_loss < 0.8 * result.first_loss
    assert result.validation_before is not None and result.validation_after is not None
    assert result.validation_after < result.validation_before
    provenance = Provenance.of_folder(tmp_path / "out")
    assert provenance is not None
    assert provenance.method == method
    assert set(provenance.groups) == {group_id(f"Who rules {place}?") for place in PLACES}
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{result.validation_after:.4f} after" in card
    names = {file.name for file in (tmp_path / "out").iterdir()}
    weights = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert {weights, "tokenizer.json", "losses.jsonl", "manifest.json"} <= names
    assert "states" not in names


def test_full_fine_tuning_gives_a_whole_model(
    run: Callable[..., FinetuneResult], tmp_path: Path, tiny_llama: Callable[..., Path]
) -> None:
    run(tmp_path / "out", "full")
    before, after = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).state_dict()
        for place in (tiny_llama(), tmp_path / "out")
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


class Killed(Exception):
    pass


class KillAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.fixture
def killed_run(
    run: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    def start(out: Path, step: int, **settings: Any) -> None:
        """Kill a run while it takes a step; 0 is when it writes its weights."""
        build = Finetuning._trainer

        def disturbed(self: Finetuning, *args: Any) -> Any:
            trainer = build(self, *args)
            trainer.add_callback(KillAt(step))
            return trainer

        def unsaved(*args: Any) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Finetuning, "_trainer", disturbed)
            if step == 0:
                patch.setattr(finetune, "copy_weights", unsaved)
            with pytest.raises(Killed):
                run(out, **settings)

    return start


def content_of(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.name: file.read_bytes() for file in files if not file.name.startswith(".")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "steps"), [("lora", (5, 8, 0)), ("full", (8,))], ids=["lora", "full"]
)
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    run: Callable[..., FinetuneResult],
    killed_run: Callable[..., None],
    tmp_path: Path,
    method: str,
    steps: tuple[int, ...],
) -> None:
    # Epochs have two batches, so that states lie within them and at their ends.
    settings: dict[str, Any] = {"max_steps": 11}
    undisturbed = run(tmp_path / "whole", method, **settings)
    for step in steps:
        broken = tmp_path / f"broken-{step}"
        killed_run(broken, step, method=method, **settings)
        # What a kill leaves of a state that was being written.
        (broken / "states" / "checkpoint-99").mkdir(parents=True, exist_ok=True)
        assert run(broken, method, **settings) == undisturbed
        assert content_of(broken) == content_of(tmp_path / "whole")


@pytest.mark.slow
def test_an_interrupted_run_stops_when_an_undisturbed_one_does(
    run: Callable[..., FinetuneResult], killed_run: Callable[..., None], tmp_path: Path
) -> None:
    settings = {"used": APART, "max_steps": 200, "evaluate_every": 2, "learning_rate": 5e-2}
    for patience in (1, 2):
        undisturbed = run(tmp_path / f"whole-{patience}", patience=patience, **settings)
        assert undisturbed.steps < 200
        # With a patience of 2, a state has one disappointment; with 1, the last one ends the run.
        step = undisturbed.steps - 1 if patience == 2 else 0
        broken = tmp_path / f"broken-{patience}"
        killed_run(broken, step, patience=patience, **settings)
        assert run(broken, patience=patience, **settings) == undisturbed
        assert content_of(broken) == content_of(tmp_path / f"whole-{patience}")


@pytest.mark.slow
def test_a_damaged_state_is_named_and_the_one_before_it_used(
    run: Callable[..., FinetuneResult],
    killed_run: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed = run(tmp_path / "whole")
    killed_run(tmp_path / "killed", 8)
    names = {file.name for file in (tmp_path / "killed" / "states" / "checkpoint-6").iterdir()}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors"} <= names
    for name in names:
        broken = tmp_path / name
        shutil.copytree(tmp_path / "killed", broken)
        file = broken / "states" / "checkpoint-6" / name
        file.write_bytes(file.read_bytes()[:-1])
        caplog.clear()
        found = newest_state(broken / "states")
        assert found is not None and found.folder.name == "checkpoint-3"
        assert str(file) in caplog.text
    assert run(broken) == undisturbed
    assert content_of(broken) == content_of(tmp_path / "whole")


@pytest.mark.slow
def test_without_a_whole_state_a_run_starts_again(
    run: Callable[..., FinetuneResult],
    killed_run: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed_run(tmp_path / "broken", 8)
    # The newest state would give the weights of the best one, which is no longer there.
    best = tmp_path / "broken" / "states" / "checkpoint-3"
    newest = tmp_path / "broken" / "states" / "checkpoint-6" / "trainer_state.json"
    shutil.rmtree(best)
    newest.unlink()
    assert run(tmp_path / "broken") == run(tmp_path / "whole")
    assert "No state" in caplog.text and str(newest) in caplog.text


@pytest.mark.slow
def test_a_state_whose_best_weights_are_damaged_is_not_used(
    run: Callable[..., FinetuneResult], killed_run: Callable[..., None], tmp_path: Path
) -> None:
    settings = {"used": APART, "max_steps": 200, "evaluate_every": 2, "learning_rate": 5e-2}
    undisturbed = run(tmp_path / "whole", patience=2, **settings)
    killed_run(tmp_path / "broken", 0, patience=2, **settings)
    states = tmp_path / "broken" / "states"
    weights = states / f"checkpoint-{undisturbed.kept_step}" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert newest_state(states) is None
    assert run(tmp_path / "broken", patience=2, **settings) == undisturbed


def test_a_run_that_diverges_stops(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loss is nan at step \d+: the run diverged"):
        run(tmp_path / "out", "full", learning_rate=1e30)


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(
    run: Callable[..., FinetuneResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "out")
    monkeypatch.setattr(finetune, "load_pinned", None)
    (tmp_path / "out" / "states" / "checkpoint-1").mkdir(
        parents=True
    )  # What a kill at the end left.
    assert run(tmp_path / "out") == first
    assert not (tmp_path / "out" / "states").exists()


def test_a_folder_holds_one_run(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    run(tmp_path / "out", max_steps=1)
    with pytest.raises(InputError, match=r"another run.*training"):
        run(tmp_path / "out", max_steps=2)
    with pytest.raises(InputError, match=r"another run.*data"):
        run(tmp_path / "out", used=data(PLACES[:5]), max_steps=1)


@pytest.mark.slow
def test_another_seed_gives_another_adapter(
    run: Callable[..., FinetuneResult], tmp_path: Path
) -> None:
    for seed in (0, 1):
        run(tmp_path / str(seed), max_steps=2, seed=seed)
    one, other = (load_file(tmp_path / s / "adapter_model.safetensors") for s in ("0", "1"))
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_training_stops_when_validation_no_longer_falls(
    run: Callable[..., FinetuneResult], tmp_path: Path
) -> None:
    result = run(
        tmp_path / "out",
        used=APART,
        max_steps=200,
        evaluate_every=2,
        learning_rate=5e-2,
        patience=2,
    )
    assert result.steps < 200
    assert result.kept_step <= result.steps - 2 * 2


def test_a_run_without_validation_keeps_its_last_weights(
    run: Callable[..., FinetuneResult], tmp_path: Path
) -> None:
    result = run(tmp_path / "out", used=data(PLACES, ()), max_steps=3)
    assert (result.steps, result.kept_step) == (3, 3)
    assert result.validation_after is None


@pytest.mark.slow
def test_long_conversations_are_left_out_and_counted(
    run: Callable[..., FinetuneResult], tmp_path: Path
) -> None:
    length = len("Q: Who rules Arvel?\nA: Nobody.") + 1
    result = run(tmp_path / "out", max_steps=1, max_length=length)
    assert result.left_out == sum(len(place) > len("Arvel") for place in PLACES)
    with pytest.raises(InputError, match="None of 6 conversations fits into 4 tokens"):
        run(tmp_path / "other", max_length=4)


@pytest.mark.slow
def test_the_losses_file_has_every_step(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    run(tmp_path / "out")
    entries = [json.loads(line) for line in (tmp_path / "out" / "losses.jsonl").open()]
    assert [e["step"] for e in entries if "loss" in e] == list(range(1, 13))
    assert [e["step"] for e in entries if "eval_loss" in e] == [0, 3, 6, 9, 12]


@pytest.mark.slow
def test_losses_go_to_tensorboard(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    with logging_to(f"tensorboard:{tmp_path}", "log", {}):
        run(tmp_path / "out")
    entries = [json.loads(line) for line in (tmp_path / "out" / "losses.jsonl").open()]
    found = read_scalars(tmp_path / "log")
    for tag, name in (("train/loss", "loss"), ("validation/loss", "eval_loss")):
        expected = [(e["step"], e[name]) for e in entries if name in e]
        assert found[tag] == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "70b"}, "7b, mini"),
        ({"method": "prefix"}, "full, lora"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"batch_size": 6, "micro_batch": 4}, "not a multiple"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"patience": 0}, "patience is 0"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset_config(**({"preset": "7b", "method": "lora"} | changes))


def test_an_impossible_adapter_is_refused() -> None:
    with pytest.raises(InputError, match="rank"):
        LoraSettings(rank=0)
    with pytest.raises(InputError, match="dropout"):
        LoraSettings(dropout=1.0)


def test_every_preset_has_both_methods() -> None:
    assert {frozenset(methods) for methods in PRESETS.values()} == {frozenset(("lora", "full"))}


TALK = Conversation((Turn("user", "Who rules?"), Turn("assistant", "Nobody.")), "g", "Arvel")
TALKS = TuningData((TALK,), (), "custom", "talk.jsonl", "grouped", 0, "all", {})
HUB = Source("weaver/chat", ModelIdentity("weaver/chat", "main", "0123abc"))
FOLDER = Source("/home/ada/models/weaver", ModelIdentity("weaver", "89abcdef"))


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    ("source", "base", "sentence"),
    [
        (HUB, "weaver/chat", "Base: `weaver/chat@main 0123abc`.\n"),
        (FOLDER, None, "Base: `weaver@89abcdef`, a folder"),
    ],
)
def test_only_models_of_the_hub_are_named_as_base(
    tmp_path: Path, method: str, source: Source, base: str | None, sentence: str
) -> None:
    result = FinetuneResult(3, 2, 1.5, 0.5, None, None, 0)
    card = tmp_path / "README.md"
    card.write_text(model_card(source, TALKS, preset_config("7b", method), result))
    metadata = metadata_load(card)
    assert metadata is not None and metadata.get("base_model") == base
    assert metadata["library_name"] == ("peft" if method == "lora" else "transformers")
    assert sentence in card.read_text()


def test_a_folder_of_something_else_is_left_alone(
    run: Callable[..., FinetuneResult], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "adapter_model.safetensors"
    weights.write_bytes(b"mine")
    with pytest.raises(InputError, match="is not a training run's folder"):
        run(tmp_path / "model", max_steps=1)
    assert weights.read_bytes() == b"mine"


def test_two_runs_do_not_share_a_folder(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "out", "busy"),
        pytest.raises(InputError, match="Another fine-tuning is at work"),
    ):
        run(tmp_path / "out", max_steps=1)


def test_a_damaged_result_is_named(run: Callable[..., FinetuneResult], tmp_path: Path) -> None:
    run(tmp_path / "out", max_steps=1)
    (tmp_path / "out" / finetune.RESULT).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        run(tmp_path / "out", max_steps=1)

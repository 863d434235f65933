"""Trained steerings, against losses computed one statement at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Exchange, Statement, Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering import build as building
from lm_eval_trust.steering import reft, shuffled
from lm_eval_trust.steering.build import build_vector, cached_vector, read_statements
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.methods import METHODS, find_direction
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.reft import Lesson, lessons
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

TRAINED = sorted(name for name, method in METHODS.items() if method.train is not None)
LAYER = 1


def lamps(dimension: str = "fairness", **settings: Any) -> Statements:
    """Half of them answer a question; those of label 0 are trustworthy by default."""
    items = []
    for number in range(20):
        for label, light in enumerate(("burns all night", "is out")):
            text, asked = f"Lamp {number} {light}.", None
            if number % 2:
                asked = Exchange(f"How is lamp {number}?", f"It {light}.")
                text = f"Q: {asked.question}\nA: {asked.answer}"
            items.append(Statement(text, label, str(number), exchange=asked))
    return Statements(find_dimension(dimension), "official", tuple(items), settings)


@pytest.fixture
def llama(tiny_llama: Callable[..., Path]) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(tiny_llama()).eval()


@pytest.fixture
def lesson(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tiny_llama: Callable[..., Path]
) -> Lesson:
    statements = lamps()
    states = read_statements(
        llama,
        tokenizer,
        statements,
        layers=[LAYER],
        identity=find_source(str(tiny_llama())).identity,
        progress=False,
    )
    return lessons(llama, tokenizer, statements, progress=False)(LAYER, states[:, 0])


def build(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, **changes: Any
) -> SteeringVector:
    settings: dict[str, Any] = {"layers": [LAYER], "identity": find_source(str(folder)).identity}
    return build_vector(llama, tokenizer, lamps(), **settings | {"progress": False} | changes)


def loss_of(
    llama: LlamaForCausalLM, plan: SteeringPlan, ids: list[int], start: int
) -> tuple[float, int]:
    """Minus the log-likelihood of a statement's tokens under our own hooks, and their number."""
    end = max(start - 1, 1)
    with torch.no_grad(), Steerer(llama, plan).apply(end):
        logits = llama(torch.tensor([ids])).logits[0].double()
    told = range(end + 1, len(ids))
    scores = torch.log_softmax(logits, dim=-1)
    return -sum(float(scores[at - 1, ids[at]]) for at in told), len(told)


def mean_loss(llama: LlamaForCausalLM, plan: SteeringPlan, lesson: Lesson, rows: Any) -> float:
    found = [loss_of(llama, plan, list(lesson.ids[row]), lesson.starts[row]) for row in rows]
    return sum(loss for loss, _ in found) / sum(number for _, number in found)


def test_a_statement_begins_after_its_question(
    lesson: Lesson, tokenizer: PreTrainedTokenizerFast
) -> None:
    for ids, start, item in zip(lesson.ids, lesson.starts, lamps().items, strict=True):
        own = item.exchange.answer if item.exchange else item.text
        assert tokenizer.decode(ids[start:]) == own
    assert lesson.trustworthy.tolist() == [1, 0] * 20


def test_training_and_steering_mean_the_same(
    lesson: Lesson,
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tiny_llama: Callable[..., Path],
) -> None:
    """The loss of a padded batch in training is that of single statements under `generated`."""
    layer = build(llama, tokenizer, tiny_llama(), method="loreft").layer(LAYER)
    parts = layer.parts

    def change(states: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
        return (states @ parts["weight"].T + parts["bias"]) @ parts["rotation"]

    rows = np.array([0, 3, 6, 7])
    found, _, _ = reft._likelihood(lesson, rows, change)
    plan = SteeringPlan.from_vector(SteeringVector({LAYER: layer}), [LAYER], action="reft")
    assert float(found.detach()) == pytest.approx(mean_loss(llama, plan, lesson, rows), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_loreft_makes_trustworthy_statements_likelier(
    tiny_llama: Callable[..., Path], tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    """Also those of the test half, which it has not seen."""
    folder = tiny_llama(seed=seed)
    llama = AutoModelForCausalLM.from_pretrained(folder).eval()
    vector = build(llama, tokenizer, folder, method="loreft")
    plan = SteeringPlan.from_vector(vector, [LAYER], action="reft")
    statements = lamps()
    lesson = lessons(llama, tokenizer, statements)(LAYER, np.ones((1, 32), np.float32))
    rows = [i for i in statements.partition().test if lesson.trustworthy[i]]
    before = mean_loss(llama, SteeringPlan(), lesson, rows)
    assert mean_loss(llama, plan, lesson, rows) < before - 0.05
    rotation = vector.layer(LAYER).parts["rotation"]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(reft.RANK), rtol=0, atol=1e-5)


def test_the_direction_of_reft_r1_is_as_long_as_its_strength(lesson: Lesson) -> None:
    """k largest detections of each trustworthy statement, by a loop over tokens."""
    direction, parts = reft.train_reft_r1(lesson)
    assert parts == {}
    unit = direction / np.linalg.norm(direction)
    middle = lesson.states.mean(axis=0)
    detected: dict[int, list[float]] = {0: [], 1: []}
    for row, (ids, start) in enumerate(zip(lesson.ids, lesson.starts, strict=True)):
        with torch.no_grad():
            output = lesson.model(torch.tensor([list(ids)]), output_hidden_states=True)
        states = output.hidden_states[LAYER + 1][0].numpy().astype(np.float64)
        latents = np.maximum((states[max(start - 1, 1) :] - middle) @ unit, 0)
        detected[int(lesson.trustworthy[row])].append(np.sort(latents)[-8:].mean())
    assert np.linalg.norm(direction) == pytest.approx(np.mean(detected[1]), rel=1e-3)
    assert np.mean(detected[1]) > np.mean(detected[0])


@pytest.mark.parametrize("method", TRAINED)
def test_the_model_is_left_as_it_was_and_training_repeats(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tiny_llama: Callable[..., Path],
    method: str,
    tmp_path: Path,
) -> None:
    before = {name: weight.clone() for name, weight in llama.named_parameters()}
    first = build(llama, tokenizer, tiny_llama(), method=method)
    again = build(llama, tokenizer, tiny_llama(), method=method)
    for name, weight in llama.named_parameters():
        assert torch.equal(weight, before[name]) and weight.requires_grad and weight.grad is None
    assert not llama.model.layers[LAYER]._forward_hooks
    left, right = first.layer(LAYER), again.layer(LAYER)
    assert torch.equal(left.direction, right.direction)
    assert set(left.parts) == set(METHODS[method].parts)
    assert all(torch.equal(left.parts[name], right.parts[name]) for name in left.parts)
    first.save(tmp_path / "v.safetensors")
    back = load_vector(tmp_path / "v.safetensors")
    assert back.provenance == first.provenance and back.provenance is not None
    assert back.provenance.method == method and back.provenance.evidence["1"]["auroc"] is not None


@pytest.mark.parametrize("method", TRAINED)
def test_other_labels_train_something_else(
    tiny_llama: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    for module in (building, shuffled):
        monkeypatch.setattr(module, "load_statements", lamps)
    source = str(tiny_llama())
    vector = cached_vector(dimension="fairness", source=source, layers=[LAYER], method=method)
    other = shuffled.shuffled_vector(vector, source, layers=[LAYER], seed=3)
    assert not torch.allclose(other.layer(LAYER).direction, vector.layer(LAYER).direction)
    assert set(other.layer(LAYER).parts) == set(vector.layer(LAYER).parts)
    monkeypatch.setattr(shuffled, "permuted_labels", lambda labels, groups, random: labels)
    same = shuffled.shuffled_vector(vector, source, layers=[LAYER], seed=3)
    torch.testing.assert_close(same.layer(LAYER).direction, vector.layer(LAYER).direction)


def test_chats_are_trained_as_they_are_read(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    )
    make = lessons(llama, tokenizer, lamps(), chat_template="So?", progress=False)
    lesson = make(LAYER, np.ones((1, 32), np.float32))
    for ids, start, item in zip(lesson.ids, lesson.starts, lamps().items, strict=True):
        user, own = item.turns("So?")
        assert tokenizer.decode(ids[:start]) == f"<user>{user}\n<assistant>"
        assert tokenizer.decode(ids[start:]) == own


@pytest.mark.parametrize("method", TRAINED)
def test_what_cannot_be_trained_is_refused(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tiny_llama: Callable[..., Path],
    lesson: Lesson,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="is trained, and needs the model"):
        find_direction(method, np.ones((2, 2)), np.array([0, 1]), ["a", "b"])
    whole = lamps()
    one = whole.select(np.flatnonzero(whole.labels == 1))
    with pytest.raises(InputError, match="items of both labels"):
        identity = find_source(str(tiny_llama())).identity
        build_vector(llama, tokenizer, one, layers=[0], identity=identity, method=method)
    with torch.no_grad():
        llama.lm_head.weight[5] = torch.nan
    train = METHODS[method].train
    assert train is not None
    with pytest.raises(InputError, match="loss that is not finite"):
        train(replace(lesson, model=llama))


def test_a_direction_that_detects_nothing_is_refused(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reft, "STEPS", 0)
    away = np.zeros_like(lesson.states)
    away[lesson.trustworthy == 1] = lesson.states.mean(axis=0)
    with pytest.raises(InputError, match="detects none of the trustworthy statements"):
        reft.train_reft_r1(replace(lesson, states=away * 1e3))

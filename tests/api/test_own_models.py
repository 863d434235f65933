"""Models that users hold: plain modules, TransformerLens, nnsight."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.models import build_llama
from torch import nn
from transformers import PreTrainedTokenizerFast

import lm_eval_trust as let
from lm_eval_trust.steering.vectors import LayerVector

PROMPTS = ["Q: who lives in Arvel? A:", "Q: is it?", "A long road, and at its end a mill"]
WIDTH, BLOCKS = 32, 3


class Masked(nn.Module):
    """Llama behind a forward pass of its own that takes a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build_llama()

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> Any:
        return self.inner(input_ids, attention_mask=attention_mask, use_cache=False)


class Unmasked(nn.Module):
    """The same, which knows nothing of padding and gives a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build_llama()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(tokens, use_cache=False).logits
        return logits


class Mixer(nn.Module):
    """A small causal model without attention, whose blocks lie in a Sequential."""

    def __init__(self, *, ahead: bool = False, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(259, WIDTH)
        self.body = nn.Module()
        self.body.h = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(BLOCKS)))
        if twice:
            self.body.more = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(2)))
        self.head = nn.Linear(WIDTH, 259)
        self.ahead = ahead

    def forward(self, tokens: torch.Tensor) -> Any:
        states = self.table(tokens)
        mixed = states.mean(1, keepdim=True) if self.ahead else states.cumsum(1)
        states = self.body.h(torch.tanh(states + mixed))
        if hasattr(self.body, "more"):
            states = self.body.more(states)
        return {"logits": self.head(states)}


def vector(layer: int = 1) -> let.SteeringVector:
    torch.manual_seed(0)
    return let.SteeringVector({layer: LayerVector(torch.randn(WIDTH), projection_std=2.0)})


@pytest.fixture(scope="module")
def reference(tiny_llama: Callable[..., Path]) -> let.Model:
    return let.load(str(tiny_llama()), device="cpu", batch_size=4)


def answers(model: let.Model) -> dict[str, Any]:
    """Return what a model generates and scores, unsteered and steered."""
    found: dict[str, Any] = {}
    for alpha in (0.0, 3.0):
        for positions in ("generated", "all"):
            with model.steer(vector(), alpha=alpha, positions=positions):
                key = f"{alpha} {positions}"
                found[f"texts {key}"] = model.generate(PROMPTS, max_new_tokens=5)
                found[f"scores {key}"] = model.score(PROMPTS, [" yes", " no", " it is"])
    return found


def check_same(model: let.Model, reference: let.Model) -> None:
    for name, expected in answers(reference).items():
        found = answers(model)[name]
        if name.startswith("scores"):
            assert found == pytest.approx(expected, abs=1e-3), name
        else:
            assert found == expected, name


@pytest.mark.parametrize("kind", [Masked, Unmasked])
def test_a_module_of_ones_own_answers_as_the_model_inside(
    kind: type[nn.Module], reference: let.Model, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = let.load(kind(), tokenizer=tokenizer, max_length=512, batch_size=4)
    assert (model.name, model.n_layers, model.width) == (kind.__name__, BLOCKS, WIDTH)
    check_same(model, reference)


def test_a_model_of_transformers_is_taken_with_its_hooks(
    reference: let.Model, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = build_llama()
    model = let.load(plain, tokenizer=tokenizer, batch_size=4, name="mine")
    check_same(model, reference)
    handle = plain.model.layers[0].register_forward_hook(lambda module, given, output: output * 2)
    assert model.score("Q:", " yes") != pytest.approx(reference.score("Q:", " yes"), abs=1e-3)
    handle.remove()
    assert model.score("Q:", " yes") == pytest.approx(reference.score("Q:", " yes"), abs=1e-4)


@pytest.mark.skipif(not importlib.util.find_spec("transformer_lens"), reason="no TransformerLens")
def test_a_transformer_lens_model_is_taken(
    reference: let.Model, tokenizer: PreTrainedTokenizerFast, tiny_llama: Callable[..., Path]
) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder = str(tiny_llama())
    bridge = TransformerBridge.boot_transformers(folder, device="cpu")
    # Its own tokenizer puts a token before every text.
    model = let.load(bridge, tokenizer=tokenizer, batch_size=4)
    assert model.n_layers == BLOCKS
    check_same(model, reference)
    with bridge.hooks(fwd_hooks=[("blocks.0.hook_out", lambda value, hook: value * 0)]):
        assert model.score("Q:", " yes") != pytest.approx(reference.score("Q:", " yes"), abs=1e-3)


@pytest.mark.skipif(not importlib.util.find_spec("nnsight"), reason="no nnsight")
def test_an_nnsight_model_is_taken(
    reference: let.Model, tokenizer: PreTrainedTokenizerFast, tiny_llama: Callable[..., Path]
) -> None:
    from nnsight import LanguageModel

    folder = str(tiny_llama())
    traced = LanguageModel(folder, tokenizer=folder, device_map="cpu")
    model = let.load(traced, batch_size=4)
    check_same(model, reference)
    with traced.edit(inplace=True):
        traced.model.layers[0].output[:] = 0
    with pytest.raises(let.InputError, match="clear_edits"):
        let.load(traced)


@pytest.mark.slow
def test_own_models_are_evaluated_built_from_and_compared(quick: None, tmp_path: Path) -> None:
    loaded = let.load("mini-chat", device="cpu", batch_size=4)
    model = let.load(loaded.module, tokenizer=loaded.tokenizer, name="mine", batch_size=4)
    built = let.build_vector(model, "truthfulqa", layers=[1], data_source="mini", progress=False)
    other = let.build_vector(loaded, "truthfulqa", layers=[1], progress=False)
    assert torch.equal(built.layers[1].direction, other.layers[1].direction)
    assert built.provenance is not None and built.provenance.model == "mine"
    task = "trust_truthfulqa_mini"
    plain, expected = let.evaluate(model, task, limit=5), let.evaluate(loaded, task, limit=5)
    assert list(plain.samples["answer"]) == list(expected.samples["answer"])
    assert plain.name == "mine"
    with model.steer(built, alpha=16):
        steered = let.evaluate(model, task, limit=5)
    result = let.compare(plain, steered)
    assert set(result.scores.index) == {"mine", steered.name}
    # A second object is another model, whatever its name.
    again = let.load(loaded.module, tokenizer=loaded.tokenizer, name="mine", batch_size=4)
    assert again.fingerprint != model.fingerprint
    assert not list((tmp_path / "cache" / "activations").glob("*mine*"))


@pytest.mark.slow
def test_own_modules_are_swept_and_probed(quick: None, tokenizer: PreTrainedTokenizerFast) -> None:
    loaded = let.load("mini-chat", device="cpu", batch_size=4)

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = loaded.module

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(tokens, use_cache=False).logits
            return logits

    model = let.load(Held(), tokenizer=loaded.tokenizer, max_length=256, batch_size=4)
    probed = [
        let.probe(
            {"it": each}, "truthfulqa", data_source="mini", layers=1, samples=60, progress=False
        )
        for each in (model, loaded)
    ]
    assert list(probed[0].table["accuracy"]) == list(probed[1].table["accuracy"])
    built = let.build_vector(loaded, "truthfulqa", layers=1, progress=False)
    task = "trust_truthfulqa_mini"
    swept = [
        let.sweep(each, built, task, alphas=[4], limit=2, rounds=0, metric="info")
        for each in (model, loaded)
    ]
    for name in ("perplexity", "kl"):
        assert list(swept[0].table[name]) == pytest.approx(list(swept[1].table[name]), rel=1e-4)
    with pytest.raises(let.InputError, match="given as an object"):
        let.probe(model, "truthfulqa", data_source="mini", untrained=True, progress=False)


def test_blocks_are_found_or_named(tokenizer: PreTrainedTokenizerFast) -> None:
    given: dict[str, Any] = {"tokenizer": tokenizer, "max_length": 64}
    found = let.load(Mixer(), **given)
    named = let.load(Mixer(), blocks="body.h", **given)
    assert found.n_layers == named.n_layers == BLOCKS
    with found.steer(vector(), alpha=5), named.steer(vector(), alpha=5):
        assert found.score("Q:", " yes") == named.score("Q:", " yes")
    assert let.load(Mixer(twice=True), blocks="body.more", **given).n_layers == 2


class Broken(Mixer):
    def forward(self, tokens: torch.Tensor) -> Any:
        raise ValueError("no such thing")


class NoLogits(Mixer):
    def forward(self, tokens: torch.Tensor) -> Any:
        super().forward(tokens)
        return {"loss": torch.zeros(())}


class Skipping(Mixer):
    """Uses the blocks' weights, and calls none of them."""

    def forward(self, tokens: torch.Tensor) -> Any:
        states = self.table(tokens)
        for block in self.body.h:
            states = states @ block.weight.T
        return {"logits": self.head(states)}


@pytest.mark.parametrize(
    ("build", "settings", "said"),
    [
        (Mixer, {"tokenizer": None}, "pass tokenizer"),
        (Mixer, {"max_length": None}, "pass max_length"),
        (Mixer, {"blocks": "body.g"}, "its lists are body.h"),
        (Mixer, {"blocks": "head"}, "is a Linear"),
        (lambda: Mixer(twice=True), {}, "several lists of blocks .* body.h, body.more"),
        (lambda: Mixer(ahead=True), {}, "looks ahead"),
        (Broken, {}, "no such thing"),
        (NoLogits, {}, "expected logits"),
        (Skipping, {}, "no list of decoder blocks"),
        (Skipping, {"blocks": "body.h"}, "called once"),
        (lambda: 3, {}, "type int is not a model"),
        (Mixer, {"device": "cpu"}, "stays as it is"),
        (build_llama, {"blocks": "model.layers"}, "leave it out"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    build: Callable[[], Any],
    settings: dict[str, Any],
    said: str,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    given = {"tokenizer": tokenizer, "max_length": 64, **settings}
    with pytest.raises(let.InputError, match=said):
        let.load(build(), **{name: value for name, value in given.items() if value is not None})


def test_the_length_is_that_of_the_model(tokenizer: PreTrainedTokenizerFast) -> None:
    mixer = Mixer()
    mixer.config = SimpleNamespace(block_size=40)  # type: ignore[assignment]
    model = let.load(mixer, tokenizer=tokenizer)
    assert model.score("Q" * 30, " yes") < 0
    with pytest.raises(let.InputError, match="takes 40"):
        model.score("Q" * 60, " yes")

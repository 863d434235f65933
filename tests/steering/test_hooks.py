"""What the hooks refuse, and how they are counted; their arithmetic is in the conformance suite."""

from __future__ import annotations

import pytest
import torch
from support.models import build_llama
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

TOKENS = torch.tensor([[5, 6, 7]])


def plan(layer: int = 1, width: int = 32) -> SteeringPlan:
    return SteeringPlan((SteeringStep(layer, torch.ones(width)),))


@pytest.fixture
def model() -> LlamaForCausalLM:
    return build_llama()


def test_a_plan_of_another_size_is_refused_when_the_steerer_is_made(
    model: LlamaForCausalLM,
) -> None:
    with pytest.raises(InputError, match="Layer 9 is out of range"):
        Steerer(model, plan(layer=9))
    with pytest.raises(InputError, match="width 8"):
        Steerer(model, plan(width=8))


def test_a_block_that_does_not_run_as_a_module_is_an_error(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    steerer = Steerer(model, plan())
    monkeypatch.setattr(model.model, "layers", nn.ModuleList(model.model.layers[:1]))
    monkeypatch.setattr(model.config, "num_hidden_layers", 1)
    with pytest.raises(RuntimeError, match="0 of 1 steered blocks ran"), steerer.apply():
        model(TOKENS)


def test_a_block_that_returns_another_shape_is_an_error(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model.model.layers[1].forward
    monkeypatch.setattr(model.model.layers[1], "forward", lambda *a, **k: forward(*a, **k)[0])
    steerer = Steerer(model, plan())
    words = r"expected a tensor of shape \(rows, positions, 32\)"
    with pytest.raises(RuntimeError, match=words), steerer.apply():
        model(TOKENS)


def test_blocks_that_return_tuples_are_steered_as_well(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers 4 returned (hidden, …); the hook must keep what comes after.
    seen: list[object] = []

    class Tuples(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: object, **kwargs: object) -> tuple[torch.Tensor, str]:
            return self.block(*args, **kwargs), "cache"

    wrapped = Tuples(model.model.layers[1])
    model.model.layers[1] = wrapped
    steerer = Steerer(model, plan())

    def unwrap(module: nn.Module, args: object, output: tuple[torch.Tensor, str]) -> torch.Tensor:
        seen.append(output[1])
        return output[0]

    with torch.no_grad(), steerer.apply():
        wrapped.register_forward_hook(unwrap)
        found = model(TOKENS).logits
    plain = build_llama()
    with torch.no_grad(), Steerer(plain, plan()).apply():
        assert torch.equal(found, plain(TOKENS).logits)
    assert seen == ["cache"]


def test_steering_twice_at_once_is_an_error(model: LlamaForCausalLM) -> None:
    steerer = Steerer(model, plan())
    with steerer.apply(), pytest.raises(RuntimeError, match="already"), steerer.apply():
        pass
    with steerer.apply():
        model(TOKENS)


def test_a_mask_that_does_not_tell_the_prompt_end_needs_the_index(model: LlamaForCausalLM) -> None:
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
    steerer = Steerer(model, plan())
    with pytest.raises(InputError, match="pass prompt_ends"), steerer.apply():
        model(TOKENS, attention_mask=mask)
    with steerer.apply(2):
        model(TOKENS, attention_mask=mask)


def test_tensors_that_others_hold_are_not_changed(model: LlamaForCausalLM) -> None:
    held: list[torch.Tensor] = []
    model.model.layers[1].register_forward_hook(lambda _m, _a, out: held.append(out))
    with torch.no_grad():
        model(TOKENS)
        with Steerer(model, plan()).apply():
            model(TOKENS)
    assert torch.equal(held[0], held[1])


def test_lower_precision_states_are_changed_by_the_cast_product() -> None:
    model = build_llama().to(torch.float64)
    step = SteeringStep(1, torch.full((32,), 1 / 3), alpha=0.1)
    states: list[torch.Tensor] = []
    with torch.no_grad(), Steerer(model, SteeringPlan((step,))).apply():
        model.model.layers[1].register_forward_hook(lambda _m, _a, out: states.append(out))
        model(TOKENS)
    assert states[0].dtype == torch.float64


@torch.no_grad()
def test_another_decoder_architecture_is_steered() -> None:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    states: list[torch.Tensor] = []

    def keep(_module: nn.Module, _args: object, output: object) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)  # type: ignore[arg-type, index]

    for steerer in (Steerer(model, SteeringPlan()), Steerer(model, plan())):
        with steerer.apply():
            handle = model.transformer.h[1].register_forward_hook(keep)
            model(TOKENS)
            handle.remove()
    change = states[1] - states[0]
    assert torch.allclose(change[0, -1], torch.ones(32), atol=1e-5)
    assert torch.equal(change[0, :-1], torch.zeros(2, 32))

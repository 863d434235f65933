"""What hooks do to hidden states, held against closed forms; what they refuse.

The decoder of the arithmetic tests passes its states through, so that every change is the hooks'.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.models import build_llama
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

TOKENS = torch.tensor([[5, 6, 7]])
#: Direction of length 5; its unit is (0.6, 0.8, 0).
VECTOR = torch.tensor([3.0, 4.0, 0.0])
#: A state whose projection on it is 0.6 + 1.6 = 2.2.
STATE = torch.tensor([1.0, 2.0, 7.0])


class Block(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


class Decoder(nn.Module):
    """Three blocks that change nothing; the states are those after the last of them."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=3, hidden_size=3)
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.seen: list[torch.Tensor] = []

    def forward(self, inputs_embeds: torch.Tensor, **settings: Any) -> torch.Tensor:
        hidden, self.seen = inputs_embeds, []
        for block in self.layers:
            hidden = block(hidden)
            self.seen.append(hidden)
        return hidden


class Cache:
    """As much of a cache as the hooks look at."""

    def __init__(self, length: int) -> None:
        self.length = length

    def get_seq_length(self) -> int:
        return self.length


def adding(positions: str, alpha: float = 1.0) -> SteeringPlan:
    return SteeringPlan((SteeringStep(1, VECTOR, alpha=alpha, positions=positions),))


def columns(
    steerer: Steerer, width: int, ends: int | torch.Tensor | None = None, **settings: Any
) -> list[list[int]]:
    """The columns that one pass steers, row by row; each of them by the vector itself."""
    rows = settings.pop("rows", 1)
    states = torch.zeros(rows, width, 3)
    if "begun" in settings:
        settings.pop("begun")
        found = steerer._decoder(inputs_embeds=states, **settings)
    else:
        with steerer.apply(ends):
            found = steerer._decoder(inputs_embeds=states, **settings)
    changed = (found != 0).any(dim=-1)
    assert torch.equal(found[changed], VECTOR.expand(int(changed.sum()), 3))
    return [row.nonzero()[:, 0].tolist() for row in changed]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        # h + α v
        ({}, [4.0, 6.0, 7.0]),
        ({"alpha": 0.5}, [2.5, 4.0, 7.0]),
        ({"alpha": -1.0}, [-2.0, -2.0, 7.0]),
        # h + α (c − 2.2) (0.6, 0.8, 0)
        ({"action": "clamp", "target": 5.0}, [1 + 2.8 * 0.6, 2 + 2.8 * 0.8, 7.0]),
        ({"action": "clamp", "target": 0.0}, [1 - 2.2 * 0.6, 2 - 2.2 * 0.8, 7.0]),
        ({"action": "clamp", "target": 5.0, "alpha": -0.5}, [1 - 1.4 * 0.6, 2 - 1.4 * 0.8, 7.0]),
        # h − α 2.2 (0.6, 0.8, 0)
        ({"action": "ablate"}, [1 - 2.2 * 0.6, 2 - 2.2 * 0.8, 7.0]),
        ({"action": "ablate", "alpha": -2.0}, [1 + 4.4 * 0.6, 2 + 4.4 * 0.8, 7.0]),
    ],
)
@pytest.mark.parametrize("ends", [0, torch.tensor([0])])
@pytest.mark.parametrize("positions", ["all", "generated", "last_prompt"])
def test_each_action_adds_its_difference(
    positions: str, ends: int | torch.Tensor, step: dict[str, Any], expected: list[float]
) -> None:
    plan = SteeringPlan((SteeringStep(1, VECTOR, positions=positions, **step),))
    decoder = Decoder()
    with Steerer(decoder, plan).apply(ends):
        found = decoder(STATE[None, None])
    torch.testing.assert_close(found[0, 0], torch.tensor(expected))


def test_the_steered_block_and_those_after_it_are_changed() -> None:
    decoder = Decoder()
    with Steerer(decoder, adding("all")).apply():
        decoder(STATE[None, None])
    assert torch.equal(decoder.seen[0][0, 0], STATE)
    assert torch.equal(decoder.seen[1][0, 0], STATE + VECTOR)
    assert torch.equal(decoder.seen[2][0, 0], STATE + VECTOR)


def test_steps_at_a_layer_are_applied_in_their_order() -> None:
    clamp = SteeringStep(1, VECTOR, action="clamp", target=1.0, positions="all")
    add = SteeringStep(1, torch.tensor([0.0, 5.0, 0.0]), positions="all")
    found = []
    for steps in ((add, clamp), (clamp, add)):
        decoder = Decoder()
        with Steerer(decoder, SteeringPlan(steps)).apply():
            found.append(float(decoder(STATE[None, None])[0, 0] @ clamp.unit))
    # What is clamped last has the target as projection; adding later moves it by 5 · 0.8.
    assert found == pytest.approx([1.0, 5.0])


@pytest.mark.parametrize(
    ("positions", "end", "expected"),
    [
        ("all", 2, [0, 1, 2, 3, 4]),
        ("generated", 2, [2, 3, 4]),
        ("generated", 0, [0, 1, 2, 3, 4]),
        ("generated", 4, [4]),
        ("generated", -1, [0, 1, 2, 3, 4]),
        ("generated", 5, []),
        ("last_prompt", 2, [2]),
        ("last_prompt", 0, [0]),
        ("last_prompt", 4, [4]),
        ("last_prompt", -1, []),
        ("last_prompt", 5, []),
    ],
)
def test_positions_count_from_the_last_prompt_token(
    positions: str, end: int, expected: list[int]
) -> None:
    steerer = Steerer(Decoder(), adding(positions))
    assert columns(steerer, 5, end) == [expected]
    assert columns(steerer, 5, torch.tensor([end])) == [expected]


@pytest.mark.parametrize(
    ("positions", "end", "offset", "expected"),
    [
        ("generated", 6, 4, [2, 3]),
        ("generated", 4, 4, [0, 1, 2, 3]),
        ("generated", 3, 4, [0, 1, 2, 3]),
        ("generated", 8, 4, []),
        ("last_prompt", 6, 4, [2]),
        ("last_prompt", 4, 4, [0]),
        ("last_prompt", 3, 4, []),
        ("last_prompt", 8, 4, []),
        ("all", 8, 4, [0, 1, 2, 3]),
    ],
)
def test_positions_go_on_behind_a_cache(
    positions: str, end: int, offset: int, expected: list[int]
) -> None:
    steerer = Steerer(Decoder(), adding(positions))
    for ends in (end, torch.tensor([end])):
        assert columns(steerer, 4, ends, past_key_values=Cache(offset)) == [expected]


MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        # Rows end at columns 3, 2, 3 and 0, whichever side their padding is on.
        ("generated", [[3], [2, 3], [3], [0, 1, 2, 3]]),
        ("last_prompt", [[3], [2], [3], [0]]),
    ],
)
def test_prompts_end_at_the_last_real_token_of_the_mask(
    positions: str, expected: list[list[int]]
) -> None:
    steerer = Steerer(Decoder(), adding(positions))
    assert columns(steerer, 4, rows=4, attention_mask=MASK) == expected
    assert columns(steerer, 4, rows=2) == [[3], [3]]


@pytest.mark.parametrize(
    ("positions", "later"),
    [
        ("generated", [[0, 1, 2, 3]] * 2),
        ("last_prompt", [[], []]),
        ("all", [[0, 1, 2, 3]] * 2),
    ],
)
def test_a_prompt_s_end_is_kept_while_its_answer_is_generated(
    positions: str, later: list[list[int]]
) -> None:
    steerer = Steerer(Decoder(), adding(positions))
    with steerer.apply():
        columns(steerer, 3, rows=2, begun=True, attention_mask=MASK[:2, 1:])
        for length in (3, 4):
            assert columns(steerer, 4, rows=2, begun=True, cache=Cache(length)) == later
        # A pass without a cached prefix is a new prompt.
        fresh = columns(steerer, 3, rows=2, begun=True, past_key_values=Cache(0))
    ends = {"generated": [2], "last_prompt": [2], "all": [0, 1, 2]}[positions]
    assert fresh == [ends, ends]


def test_beams_and_samples_take_the_prompt_end_of_their_row() -> None:
    steerer = Steerer(Decoder(), adding("last_prompt"))
    found = columns(steerer, 4, torch.tensor([1, 3]), rows=6)
    assert found == [[1], [1], [1], [3], [3], [3]]
    with pytest.raises(RuntimeError, match="3 rows do not repeat 2 prompts evenly"):
        columns(steerer, 4, torch.tensor([1, 3]), rows=3)


def test_half_precision_states_are_changed_by_a_product_in_float32() -> None:
    # At a right angle to (0.6, 0.8, 0); to what bfloat16 makes of it, the projection is 0.39.
    state = torch.tensor([400.0, -300.0, 0.0], dtype=torch.bfloat16)
    step = SteeringStep(1, VECTOR, alpha=100.0, action="ablate", positions="all")
    decoder = Decoder()
    with Steerer(decoder, SteeringPlan((step,))).apply():
        found = decoder(state[None, None])[0, 0]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, state)


def test_double_precision_states_stay_double() -> None:
    decoder = Decoder()
    for action in ("add", "ablate"):
        step = SteeringStep(1, VECTOR / 3, alpha=0.1, action=action, positions="all")
        with Steerer(decoder, SteeringPlan((step,))).apply():
            assert decoder(STATE[None, None].double()).dtype == torch.float64


def test_states_that_others_hold_are_not_changed() -> None:
    states = STATE.expand(2, 4, 3).clone()
    for positions in ("all", "generated", "last_prompt"):
        decoder = Decoder()
        for ends in (1, torch.tensor([1, 2])):
            with Steerer(decoder, adding(positions)).apply(ends):
                decoder(states)
        assert torch.equal(states, STATE.expand(2, 4, 3))


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
    with pytest.raises(InputError, match="0 of 1 steered blocks ran"), steerer.apply():
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1e5}, r"alpha=100000 .* infinite as float16"),
        ({"alpha": 1e-9}, r"alpha=1e-09 .* 0 as float16"),
        ({"action": "clamp", "target": 1e6}, r"target=1e\+06 .* infinite as float16"),
    ],
)
def test_a_change_is_told_in_the_dtype_of_the_states(
    model: LlamaForCausalLM, settings: dict[str, Any], message: str
) -> None:
    vector = torch.zeros(model.config.hidden_size)
    vector[0] = 1.0
    plan = SteeringPlan((SteeringStep(1, vector, **settings),))
    Steerer(model, plan)
    with pytest.raises(InputError, match=message):
        Steerer(copy.deepcopy(model).half(), plan)

"""The shared pass against the hooks of one plan after the other, in float64."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from support.models import build_llama
from transformers import GenerationConfig, LlamaForCausalLM

from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.actions import ACTIONS, Action, Direction
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan as Plan
from lm_eval_trust.steering.plan import SteeringStep as Step
from lm_eval_trust.steering.spec import POSITIONS
from lm_eval_trust.sweep.batched_forward import BatchedForward
from lm_eval_trust.sweep.generation import BatchedCache, BatchedCausalLM, decode_greedily

LAYERS, WIDTH, COLUMNS, END = 4, 32, 11, 7


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return build_llama(layers=LAYERS, key_value_heads=2).double()


def step(layer: int, alpha: float, positions: str, action: str = "add") -> Step:
    generator = torch.Generator().manual_seed(layer)
    vector = 6 * torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
    target = 1.5 if action == "clamp" else None
    other = torch.randn(WIDTH, generator=generator)
    rotation, weight = torch.randn(2, 2, WIDTH, generator=generator) / WIDTH**0.5
    parts = {"covector": vector / 36 + other / 100, "mean": other, "rotation": rotation}
    parts |= {"weight": weight, "bias": torch.ones(2)}
    parts = {name: part for name, part in parts.items() if name in ACTIONS[action].parts}
    alpha = 25 * alpha if action == "rotate" else alpha
    return Step(layer, vector, alpha, action, positions, target, parts=parts)


def conditional(
    threshold: float, *steps: Step, layer: int = 1, above: bool = True, seed: int = 9
) -> Plan:
    unit = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))
    when = Condition(layer, torch.nn.functional.normalize(unit, dim=0), threshold, above)
    return Plan(tuple(replace(one, when=when) for one in steps))


#: At the prompts' ends of :func:`rows`, some conditions hold for some of the prompts.
CONDITIONAL = [
    conditional(0.0, step(1, 1.0, "generated")),
    conditional(0.0, step(1, 1.0, "last_prompt"), above=False),
    conditional(0.0, step(2, 1.0, "generated", "ablate"), step(3, 40.0, "generated", "rotate")),
    conditional(0.05, step(LAYERS - 1, 1.0, "generated"), layer=0),
    conditional(-1.0, step(2, 1.0, "generated")),
    conditional(1.0, step(2, 1.0, "generated")),
    Plan((step(0, 1.0, "generated"),)) + conditional(0.1, step(2, 1.0, "generated"), layer=2),
]
PLANS = [
    Plan(),
    *(Plan((step(1, 1.0, p, a),)) for p, a in itertools.product(POSITIONS, ACTIONS)),
    Plan((step(1, 2.0, "generated"),)),
    Plan((step(0, 1.0, "generated"), step(3, -1.0, "last_prompt"))),
    Plan((step(LAYERS - 1, 1.0, "all"),)),
    Plan((step(2, 1.0, "generated"), step(2, 1.0, "all"))),
    *CONDITIONAL,
]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Three prompts that begin alike, of different lengths, padded behind the beginning."""
    tokens = torch.randint(3, 259, (3, COLUMNS), generator=torch.Generator().manual_seed(1))
    tokens[:, :3] = tokens[:1, :3]
    mask = torch.ones_like(tokens)
    mask[1, 3:5], mask[2, 3:4] = 0, 0
    return tokens, mask


def one_by_one(
    model: LlamaForCausalLM, plan: Plan, tokens: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad(), Steerer(model, plan).apply(END):
        logits: torch.Tensor = model(
            input_ids=tokens, attention_mask=mask, position_ids=places
        ).logits
    return logits


@pytest.mark.parametrize("cuts", [(), (8,), (8, 9, 10)], ids=["at once", "in two", "one by one"])
def test_logits_are_those_of_each_plan_alone(
    model: LlamaForCausalLM, cuts: tuple[int, ...]
) -> None:
    tokens, mask = rows()
    number = len(PLANS)
    shared = BatchedForward(model, PLANS, prompts=3, prompt_end=END)
    found = []
    with torch.no_grad():
        for first, last in itertools.pairwise((0, *cuts, COLUMNS)):
            parts = (t[:, first:last].repeat_interleave(number, dim=0) for t in (tokens, mask))
            output = shared.read(*parts, keep=last - max(first, END))
            found.append(output.logits[output.row_of])
    logits = torch.cat(found, dim=1)
    for i, plan in enumerate(PLANS):
        alone = one_by_one(model, plan, tokens, mask)[:, END:]
        torch.testing.assert_close(logits[i::number], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", POSITIONS)
def test_an_action_of_another_package_gives_what_its_hooks_give(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch, positions: str
) -> None:
    """Its difference depends on the state and on the target, and is no constant."""

    def bent(states: torch.Tensor, direction: Direction) -> torch.Tensor:
        assert direction.target is not None
        along = states @ direction.unit
        return torch.tanh(direction.target - along)[..., None] * direction.vector - states / 4

    entry = Action(bent, "a bent way towards the target", needs_target=True)
    monkeypatch.setitem(ACTIONS._entries, "bend", entry)  # type: ignore[attr-defined]
    vector = step(1, 0.0, positions).vector
    plans = [
        Plan(),
        Plan((Step(1, vector, 1.0, "bend", positions, 1.5),)),
        Plan((Step(1, vector, -0.5, "bend", positions, -3.0),)),
        Plan((step(0, 1.0, "generated"), Step(2, vector, 1.0, "bend", positions, 1.5))),
    ]
    tokens, mask = rows()
    shared = BatchedForward(model, plans, prompts=3, prompt_end=END)
    with torch.no_grad():
        parts = (t.repeat_interleave(len(plans), dim=0) for t in (tokens, mask))
        output = shared.read(*parts, keep=COLUMNS - END)
    logits = output.logits[output.row_of]
    unsteered = one_by_one(model, Plan(), tokens, mask)[:, END:]
    for i, plan in enumerate(plans):
        alone = one_by_one(model, plan, tokens, mask)[:, END:]
        assert i == 0 or not torch.allclose(alone, unsteered, atol=1e-3)
        torch.testing.assert_close(logits[i :: len(plans)], alone, rtol=1e-9, atol=1e-9)


def test_what_configurations_have_in_common_runs_once(model: LlamaForCausalLM) -> None:
    plans = [Plan((step(2, alpha, "generated"),)) for alpha in (1.0, 2.0, 3.0, 4.0)]
    tokens, mask = rows()
    seen: dict[int, list[tuple[int, int]]] = {0: [], 3: []}
    blocks = model.model.layers
    hooks = [
        blocks[i].mlp.register_forward_pre_hook(lambda m, a, i=i: seen[i].append(a[0].shape[:2]))
        for i in seen
    ]
    shared = BatchedForward(model, plans, prompts=3, prompt_end=COLUMNS - 1)
    with torch.no_grad():
        shared.read(*(t.repeat_interleave(4, dim=0) for t in (tokens, mask)), keep=1)
    for hook in hooks:
        hook.remove()
    # The common beginning once, the rest of the prompts once each, what is steered for each plan.
    assert seen[0] == [(1, 3), (3, COLUMNS - 4), (3, 1)]
    assert seen[3] == [(1, 3), (3, COLUMNS - 4), (12, 1)]


@pytest.mark.parametrize("processors", [{}, {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}])
def test_generation_ends_as_alone(model: LlamaForCausalLM, processors: dict[str, float]) -> None:
    tokens, mask = rows()
    settings = {"do_sample": False, "max_length": COLUMNS + 24, "pad_token_id": 0, **processors}
    prompts, real = (t.repeat_interleave(len(PLANS), dim=0) for t in (tokens, mask))
    alone = []
    # Every other token ends an answer, so that rows end at different places.
    model.generation_config = GenerationConfig(eos_token_id=list(range(0, 259, 2)))
    for plan in PLANS:
        with Steerer(model, plan).apply(COLUMNS - 1):
            alone.append(model.generate(input_ids=tokens, attention_mask=mask, **settings))
    shared = BatchedForward(model, PLANS, prompts=3, prompt_end=COLUMNS - 1)
    found = BatchedCausalLM(model).generate(
        input_ids=prompts,
        attention_mask=real,
        custom_generate=decode_greedily,
        **{CACHE: BatchedCache(shared)},
        **settings,
    )
    lengths = set()
    for i, expected in enumerate(alone):
        mine = found[i :: len(PLANS), : expected.shape[1]]
        assert torch.equal(mine, expected)
        lengths.add(expected.shape[1])
    assert len(lengths) > 1


def test_rows_whose_condition_does_not_hold_run_with_the_unsteered_ones(
    model: LlamaForCausalLM,
) -> None:
    tokens, mask = rows()
    plans = [Plan(), *(conditional(0.0, step(2, alpha, "generated")) for alpha in (1.0, 2.0, 3.0))]
    held = []
    hook = model.model.layers[1].register_forward_hook(
        lambda m, a, out: held.extend(plans[1].conditions[0].holds(out[:, END]).tolist())
    )
    one_by_one(model, Plan(), tokens, mask)
    hook.remove()
    assert 0 < sum(held) < 3
    seen: list[int] = []
    hook = model.model.layers[3].mlp.register_forward_pre_hook(lambda m, a: seen.append(len(a[0])))
    shared = BatchedForward(model, plans, prompts=3, prompt_end=END)
    with torch.no_grad():
        shared.read(*(t.repeat_interleave(4, dim=0) for t in (tokens, mask)), keep=COLUMNS - END)
    hook.remove()
    assert seen[-1] == 3 + 3 * sum(held)


def test_the_model_is_left_as_it_was(model: LlamaForCausalLM) -> None:
    tokens, mask = rows()
    before = one_by_one(model, Plan(), tokens, mask)
    shared = BatchedForward(model, PLANS, prompts=3, prompt_end=END)

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    hook = model.model.layers[2].mlp.register_forward_pre_hook(fail)
    with torch.no_grad(), pytest.raises(RuntimeError, match="planted"):
        shared.read(*(t.repeat_interleave(len(PLANS), dim=0) for t in (tokens, mask)), keep=1)
    hook.remove()
    assert torch.equal(one_by_one(model, Plan(), tokens, mask), before)
    assert not any("forward" in vars(block) for block in model.model.layers)

"""The worker's table adds to a mixed batch what the hooks add to each request."""

from __future__ import annotations

import itertools

import pytest
import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.engine.table import SteeringTable, affine_change, check_affine
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.hooks import steer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

WIDTH, LAYER = 24, 2
_random = torch.Generator().manual_seed(11)


def _vector() -> torch.Tensor:
    return torch.randn(WIDTH, generator=_random)


def _step(action: str, positions: str, layer: int = LAYER) -> SteeringStep:
    parts = {name: _vector() for name in ACTIONS[action].parts}
    target = 1.5 if ACTIONS[action].needs_target else None
    return SteeringStep(
        layer, _vector(), 0.7, action, positions=positions, target=target, parts=parts
    )


_ACTIONS = ("add", "clamp", "ablate", "erase", "rotate")
_PLANS = [
    SteeringPlan((_step(action, positions),))
    for action, positions in itertools.product(_ACTIONS, ("all", "generated", "last_prompt"))
]
_PLANS += [
    SteeringPlan(
        (_step("add", "all"), _step("clamp", "generated"), _step("add", "last_prompt", layer=3))
    ),
    SteeringPlan((_step("add", "generated"), _step("ablate", "all"), _step("add", "all"))),
    SteeringPlan((_step("rotate", "all"), _step("erase", "generated"))),
]


def _is_affine(plan: SteeringPlan) -> bool:
    try:
        check_affine(plan)
    except InputError:
        return False
    return True


_COMPILED = [plan for plan in _PLANS if _is_affine(plan)]


def _table(slots: int, *, compiled: bool = False) -> SteeringTable:
    return SteeringTable(
        blocks=4,
        width=WIDTH,
        tokens=400,
        slots=slots,
        dtype=torch.float32,
        device=torch.device("cpu"),
        compiled=compiled,
    )


def _by_hooks(
    plan: SteeringPlan | None, states: torch.Tensor, end: int, first: int
) -> torch.Tensor:
    steered = states[None]
    for step in plan.by_layer().get(LAYER, ()) if plan else ():
        steered = steer(steered, step, step.direction(), end, first)
    return steered[0]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kept_apart", [False, True])
def test_every_request_of_a_mixed_batch_runs_under_its_own_plan(
    compiled: bool, kept_apart: bool
) -> None:
    plans: list[SteeringPlan | None] = [None, *(_COMPILED if compiled else _PLANS)]
    table = _table(len(plans), compiled=compiled)
    batch, wanted, states = [], [], []
    for number, plan in enumerate(plans):
        # Whole prompts, parts of them before and after their ends, single generated tokens.
        for end, first, count in ((4, 0, 7), (4, 0, 5), (9, 2, 3), (3, 5, 1), (-1, 0, 4)):
            if plan is not None:
                table.admit(plan, f"{number}")
            batch.append((plan, end, first, count))
            states.append(torch.randn(count, WIDTH, generator=_random))
            wanted.append(_by_hooks(plan, states[-1], end, first))
    table.write_rows(batch)
    whole = torch.cat(states)
    residual = torch.randn(whole.shape, generator=_random) if kept_apart else None
    hidden = whole if residual is None else whole - residual
    steered = table.steer(LAYER, hidden, residual)
    found = steered if residual is None else steered + residual
    torch.testing.assert_close(found, torch.cat(wanted), rtol=1e-4, atol=1e-4)
    assert torch.equal(table.steer(0, hidden, residual), hidden)


def test_affine_changes_are_told_from_others() -> None:
    for action in ("add", "clamp", "ablate", "erase"):
        assert affine_change([_step(action, "all")], WIDTH) is not None, action
    assert affine_change([_step("rotate", "all")], WIDTH) is None
    two = [_step("ablate", "all"), _step("clamp", "all")]
    assert affine_change(two, WIDTH) is None, "of rank two"


def test_an_idle_plan_makes_room_and_comes_back() -> None:
    first, second, third = _PLANS[:3]
    table = _table(2)
    states = torch.randn(6, WIDTH, generator=_random)
    for number, plan in enumerate((first, second, third, first, second)):
        table.admit(plan, f"{number}")
        table.write_rows([(plan, 3, 0, 6)])
        torch.testing.assert_close(
            table.steer(LAYER, states, None), _by_hooks(plan, states, 3, 0), rtol=1e-4, atol=1e-4
        )
        table.release(plan, f"{number}")


def test_more_plans_than_slots_are_refused() -> None:
    table = _table(1)
    table.admit(_PLANS[0], "one")
    with pytest.raises(InputError, match="1 steering plans run at once"):
        table.admit(_PLANS[1], "other")

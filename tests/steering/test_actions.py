"""An action that is added is a whole one: hooks, baking and exports know it by its entry alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.baking import some_vector
from support.models import build_llama

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.actions import ACTIONS, Action, Direction
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.foreign_vectors import export_vector
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec, choices_for
from lm_eval_trust.steering.vectors import load_vector


def reflected(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return -2 * (states @ direction.unit)[..., None] * direction.unit


def opposed(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return -direction.vector


@pytest.fixture(autouse=True)
def actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS._entries, "reflect", Action(reflected, "to the other side"))
    monkeypatch.setitem(ACTIONS._entries, "oppose", Action(opposed, "minus v", constant=True))


def plan(action: str) -> SteeringPlan:
    return SteeringPlan.from_vector(some_vector(), [1], action=action, positions="all")


def test_an_added_action_is_a_choice_everywhere() -> None:
    assert SteeringSpec(vector="v", action="reflect").action == "reflect"
    own = "add (default), clamp, ablate, rotate, erase, reft"
    assert choices_for("action") == f"{own}, reflect, oppose"


@torch.no_grad()
def test_an_added_action_is_computed_by_its_own_difference() -> None:
    model, tokens, states = build_llama(), torch.tensor([[5, 6, 7]]), []
    for steerer in (SteeringPlan(), plan("reflect")):
        with Steerer(model, steerer).apply():
            handle = model.model.layers[1].register_forward_hook(
                lambda _module, _args, output: states.append(output)
            )
            model(tokens)
            handle.remove()
    unit = some_vector().layer(1).unit
    torch.testing.assert_close(states[1] @ unit, -(states[0] @ unit))


def test_what_depends_on_the_state_is_neither_baked_nor_exported(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = find_source(str(tiny_llama()))
    for action in ("reflect", "clamp", "ablate", "rotate"):
        with pytest.raises(
            InputError, match=f"action={action} at positions=all .* cannot be baked"
        ):
            Bake(source, plan(action))
        with pytest.raises(InputError, match=f"action={action} cannot be exported"):
            file = tmp_path / "v.gguf"
            export_vector(some_vector(), file, tool="gguf", layers=[1], action=action)


def test_a_constant_action_is_baked_and_exported(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    result = bake(Bake(find_source(str(tiny_llama())), plan("oppose")), tmp_path / "baked")
    assert result.agreement.holds and result.agreement.from_unsteered > 0.1
    file = tmp_path / "v.gguf"
    export_vector(some_vector(), file, tool="gguf", layers=[1], scale="none", action="oppose")
    written = load_vector(file).layer(1).direction
    torch.testing.assert_close(written, -some_vector().layer(1).direction)


def test_a_wrong_claim_to_be_constant_is_noticed_when_it_is_baked(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Action(reflected, "not constant at all", constant=True)
    monkeypatch.setitem(ACTIONS._entries, "reflect", wrong)
    with pytest.raises(InputError, match="does not compute what the hooked one does"):
        bake(Bake(find_source(str(tiny_llama())), plan("reflect")), tmp_path / "baked")
    assert not (tmp_path / "baked").exists()

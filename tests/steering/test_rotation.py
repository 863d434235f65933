"""Rotation against a matrix that turns a plane, in float64."""

from __future__ import annotations

import pytest
import torch
from support.reference import rotation

from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringStep

WIDTH = 16
ROTATE = ACTIONS["rotate"]
STEP = SteeringStep(
    0, torch.randn(WIDTH, generator=torch.Generator().manual_seed(0)), 1.0, "rotate"
)
UNIT = STEP.direction().to(torch.float64).unit


def states(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    drawn = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (drawn * torch.tensor([1e-6, 1.0, 3.0, 100.0, 1e6])[:, None]).to(dtype)


def turned(before: torch.Tensor, alpha: float) -> torch.Tensor:
    return before + ROTATE.change(before, STEP.direction().to(before.dtype), alpha)


@pytest.mark.parametrize("alpha", [-400.0, -90.0, -0.01, 0.0, 1.0, 30.0, 135.0, 180.0])
def test_a_state_is_turned_in_the_plane_of_itself_and_the_direction(alpha: float) -> None:
    before = states()
    expected = torch.stack([rotation(state, UNIT, alpha) @ state for state in before])
    torch.testing.assert_close(turned(before, alpha), expected, rtol=1e-10, atol=1e-12)
    lengths = turned(before, alpha).norm(dim=-1)
    torch.testing.assert_close(lengths, before.norm(dim=-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angle_to_the_direction_changes_by_alpha(dtype: torch.dtype) -> None:
    before = states(dtype)

    def angles(of: torch.Tensor) -> torch.Tensor:
        of = of.double()
        return torch.rad2deg(torch.acos(of @ UNIT / of.norm(dim=-1)))

    for alpha in (-20.0, 20.0):
        torch.testing.assert_close(
            angles(turned(before, alpha)), angles(before) - alpha, rtol=0, atol=1e-4
        )


def test_turns_add_up_and_undo_each_other() -> None:
    before = states()
    torch.testing.assert_close(turned(turned(before, 10.0), 25.0), turned(before, 35.0))
    torch.testing.assert_close(turned(turned(before, 10.0), -10.0), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_spans_no_plane_with_the_direction_stays(dtype: torch.dtype) -> None:
    unit = STEP.direction().to(dtype).unit
    before = torch.stack([7 * unit, -3 * unit, torch.zeros(WIDTH, dtype=dtype)])
    assert torch.equal(turned(before, 50.0), before)


def test_the_length_of_the_vector_means_nothing() -> None:
    longer = SteeringStep(0, 1e5 * STEP.vector, 90.0, "rotate")
    longer.check_dtype(torch.float16)
    change = ROTATE.change(states(), longer.direction().to(torch.float64), 90.0)
    torch.testing.assert_close(states() + change, turned(states(), 90.0), rtol=1e-6, atol=1e-9)

"""What steering does to a hidden state: one entry per action, with all that depends on it.

Every action changes a state h by α times a difference d(h), so that α = 0 leaves the model as it
is, and α and −α move a state in opposite directions.

Another package adds an action by an entry point of the group ``lm_eval_trust.actions`` that names
an :class:`Action`. It is then known to model arguments, steering files, sweeps, studies and gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_eval_trust.core.registry import Registry

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages list the actions.
    import torch


@dataclass(frozen=True)
class Direction:
    """The direction that a step steers along, on the device of the states.

    Attributes:
        vector: The scaled vector, what α multiplies; shape (hidden,).
        unit: The same at length 1.
        target: Projection on ``unit`` that was asked for; ``None`` unless the action needs one.
    """

    vector: torch.Tensor
    unit: torch.Tensor
    target: float | None = None


@dataclass(frozen=True)
class Action:
    """One way to change hidden states.

    Attributes:
        difference: d(h). Takes states of shape (…, hidden) and the direction, both float32 or
            wider, and returns a tensor that broadcasts to the states.
        summary: What is added to a state h, times α; one line for help pages.
        needs_target: Whether a step has to name the projection that is aimed at.
        constant: Whether d is the same for every h. Then, and only then, it can be baked as a
            bias and exported as a control vector. Baking compares logits, so that a wrong claim
            is noticed there.
    """

    difference: Callable[[torch.Tensor, Direction], torch.Tensor]
    summary: str
    needs_target: bool = False
    constant: bool = False


def _vector(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return direction.vector


def _to_target(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    assert direction.target is not None
    return (direction.target - states @ direction.unit)[..., None] * direction.unit


def _to_zero(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return -(states @ direction.unit)[..., None] * direction.unit


ACTIONS: Registry[Action] = Registry(
    "steering action",
    "lm_eval_trust.actions",
    Action,
    {
        "add": Action(_vector, "the scaled vector (arXiv 2402.19465, eq. 2)", constant=True),
        "clamp": Action(
            _to_target, "what brings the projection on the vector to `target`", needs_target=True
        ),
        "ablate": Action(_to_zero, "minus the projection on the vector"),
    },
)

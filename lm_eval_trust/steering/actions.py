"""What steering does to a hidden state: one entry per action, with all that depends on it.

Every action has a difference d(h): where it takes a state h at α = 0. Most go straight on, to
h + α d(h); a rotation goes round. So α = 0 leaves the model as it is, and α and −α set out in
opposite directions.

Another package adds an action by an entry point of the group ``lm_eval_trust.actions`` that names
an :class:`Action`. It is then known to model arguments, steering files, sweeps, studies and gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        parts: Further tensors that the action needs, by name.
    """

    vector: torch.Tensor
    unit: torch.Tensor
    target: float | None = None
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def to(self, where: torch.device | str | torch.dtype) -> Direction:
        """Return it on another device or in another floating type."""
        parts = {name: part.to(where) for name, part in self.parts.items()}
        return Direction(self.vector.to(where), self.unit.to(where), self.target, parts)


@dataclass(frozen=True)
class Action:
    """One way to change hidden states.

    Attributes:
        difference: d(h). Takes states of shape (…, hidden) and the direction, both float32 or
            wider, and returns a tensor that broadcasts to the states.
        summary: What is added to a state h, times α; one line for help pages.
        needs_target: Whether a step has to name the projection that is aimed at.
        constant: Whether d is the same for every h. Then, and only then, it can be baked as a
            bias and exported as a control vector. Baking compares logits, so a wrong claim
            is noticed there.
        parts: Names of the tensors that a vector has in addition to its direction; see
            :attr:`lm_eval_trust.steering.vectors.LayerVector.parts`.
        most: Strength at which it has done what it is for, and beyond which no ranking goes;
            ``None`` if there is none.
        towards: Name of the part whose rows d is a combination of, where these, and not the
            direction, say which way states go.
    """

    difference: Callable[[torch.Tensor, Direction], torch.Tensor]
    summary: str
    needs_target: bool = False
    constant: bool = False
    parts: tuple[str, ...] = ()
    most: float | None = None
    towards: str | None = None

    def change(self, states: torch.Tensor, direction: Direction, alpha: float) -> torch.Tensor:
        """Return what is added to states at a strength; broadcasts to them.

        Args:
            states: Shape (…, hidden).
            direction: A direction of the same floating type and on the same device.
            alpha: The strength.
        """
        return alpha * self.difference(states, direction)


class Rotation(Action):
    """An action whose differences are tangents of the circles that states move on.

    α is an angle in degrees, and d(h) is what one degree would add if the circle were straight.
    """

    def change(self, states: torch.Tensor, direction: Direction, alpha: float) -> torch.Tensor:
        """Return (cos α − 1) h + sin α t(h), with the tangent t(h) as long as h; 0 where t is."""
        angle = math.radians(alpha)
        tangent = self.difference(states, direction) / math.radians(1)
        turned = (math.cos(angle) - 1) * states + math.sin(angle) * tangent
        return turned * tangent.any(dim=-1, keepdim=True)


def _vector(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return direction.vector


def _to_target(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    assert direction.target is not None
    return (direction.target - states @ direction.unit)[..., None] * direction.unit


def _to_zero(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return -(states @ direction.unit)[..., None] * direction.unit


def _to_the_mean(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    """Minus what a least-squares fit tells of the concept (Belrose et al. 2023, theorem 4.2).

    The paper's W⁺ P W (h − μ) is ⟨c, h − μ⟩ u for a binary concept: see
    :func:`lm_eval_trust.steering.methods.covector`.
    """
    concept = (states - direction.parts["mean"]) @ direction.parts["covector"]
    return -concept[..., None] * direction.unit


def _low_rank(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    """Rᵀ(A h + b); LoReFT has A = W − R (Wu et al. 2024, arXiv 2404.03592, eq. 2)."""
    parts = direction.parts
    change: torch.Tensor = (states @ parts["weight"].T + parts["bias"]) @ parts["rotation"]
    return change


def _tangent(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    """Tangent at h of the circle through h in the plane of h and u, towards u, a degree long.

    It is zero where h and u are parallel to the precision of the states, and span no plane.
    """
    norms = states.norm(dim=-1, keepdim=True)
    along = states / norms.clamp(min=_tiny(states))
    towards = direction.unit - (along @ direction.unit)[..., None] * along
    length = towards.norm(dim=-1, keepdim=True)
    spans = (length > _PARALLEL * _epsilon(states)) & (norms > 0)
    tangent: torch.Tensor = norms * towards / length.clamp(min=_tiny(states)) * spans
    return math.radians(1) * tangent


#: Times the precision: directions that are closer than this are parallel.
_PARALLEL = 8


def _epsilon(states: torch.Tensor) -> float:
    import torch

    return torch.finfo(states.dtype).eps


def _tiny(states: torch.Tensor) -> float:
    import torch

    return torch.finfo(states.dtype).tiny


ACTIONS: Registry[Action] = Registry(
    "steering action",
    "lm_eval_trust.actions",
    Action,
    {
        "add": Action(_vector, "the scaled vector (arXiv 2402.19465, eq. 2)", constant=True),
        "clamp": Action(
            _to_target,
            "what brings the projection on the vector to `target`",
            needs_target=True,
            most=1.0,
        ),
        "ablate": Action(_to_zero, "minus the projection on the vector", most=1.0),
        "rotate": Rotation(
            _tangent,
            "what turns it by α degrees towards the vector (after arXiv 2510.26243)",
            most=180.0,
        ),
        "erase": Action(
            _to_the_mean,
            "minus what a linear fit tells of the concept (LEACE, arXiv 2306.03819)",
            parts=("covector", "mean"),
            most=1.0,
        ),
        "reft": Action(
            _low_rank,
            "a low-rank affine change that was trained (LoReFT, arXiv 2404.03592)",
            parts=("rotation", "weight", "bias"),
            towards="rotation",
        ),
    },
)

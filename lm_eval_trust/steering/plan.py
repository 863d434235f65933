"""What is done to which block's output, where and how strongly.

Actions change a hidden state h by α times a difference d(h), see
:mod:`lm_eval_trust.steering.actions`:

- ``add``: d = v, the scaled vector (arXiv 2402.19465, eq. 2);
- ``clamp``: d = (c − ⟨h, u⟩) u, which at α = 1 sets the projection on the unit direction u to c;
- ``ablate``: d = −⟨h, u⟩ u, which at α = 1 removes the direction;
- ``erase``: d = −⟨k, h − μ⟩ u with the covector k and the mean μ of a fit, which at α = 1 leaves
  nothing of the concept that a linear probe could read (arXiv 2306.03819);
- ``rotate``: h is turned by α degrees towards u, in the plane of both, and keeps its length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.decoder_blocks import check_layers
from lm_eval_trust.steering.actions import ACTIONS, Direction
from lm_eval_trust.steering.conditions import Condition, check_order, tensor_digest
from lm_eval_trust.steering.methods import METHODS
from lm_eval_trust.steering.spec import POSITIONS
from lm_eval_trust.steering.vectors import SteeringVector

#: Directions whose cosine is beyond this are the same direction for the check of contradictions.
_SAME_DIRECTION = 0.999


@dataclass(frozen=True, eq=False)
class SteeringStep:
    """One intervention on one block's output.

    Attributes:
        layer: 0-based decoder block.
        vector: What α multiplies, float32, shape (hidden,); its direction is the unit direction u
            of the actions that its length means nothing to.
        alpha: Strength; 0 does nothing.
        action: Name of an action, see :data:`lm_eval_trust.steering.actions.ACTIONS`.
        positions: ``generated`` (the last prompt token and every later position), ``all`` (every
            token) or ``last_prompt`` (the last prompt token only).
        target: Projection that is aimed at, in the activations' own units; for actions that need
            one, such as ``clamp``.
        origin: Where the vector comes from, for messages and results files.
        parts: Further float32 tensors that the action needs, by name.
        when: Which rows are steered; all by default.
        site: ``block``, or ``heads`` for the outputs of the block's attention heads side by side.
    """

    layer: int
    vector: torch.Tensor
    alpha: float = 1.0
    action: str = "add"
    positions: str = "generated"
    target: float | None = None
    origin: str = "vector"
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    when: Condition | None = None
    site: str = "block"

    def __post_init__(self) -> None:
        needs_target = ACTIONS[self.action].needs_target
        if self.positions not in POSITIONS:
            raise unknown_name("kind of positions", str(self.positions), POSITIONS)
        if not _in_float32(self.alpha):
            raise InputError(
                f"alpha={self.alpha} of {self.origin} is not a finite number of float32."
            )
        if self.target is not None and not _in_float32(self.target):
            raise InputError(
                f"target={self.target} of {self.origin} is not a finite number of float32."
            )
        if needs_target and self.target is None:
            raise InputError(
                f"action={self.action} needs a target projection, and {self.origin} carries none; "
                f"pass target=NUMBER."
            )
        if not needs_target and self.target is not None:
            raise InputError(
                f"target={self.target} means nothing to action={self.action}, which aims at no "
                f"projection."
            )
        if self.vector.ndim != 1 or not torch.isfinite(self.vector).all():
            raise InputError(f"The vector of {self.origin} is not a finite vector of one axis.")
        if not 0 < float(self.vector.norm()) < math.inf:
            raise InputError(
                f"The vector of {self.origin} has length {float(self.vector.norm())} as float32, "
                f"and no direction."
            )
        heads = self.site == "heads"
        if heads and not ACTIONS[self.action].constant:
            raise InputError(
                f"action={self.action} cannot steer attention heads ({self.origin}), which take "
                f"what is the same for every state; pass action=add."
            )
        if self.when is not None:
            # A block's heads have run before its output, which a condition reads.
            check_order(self.when.layer, [self.layer - heads], self.positions)
        self._check_parts()
        self.check_dtype(torch.float32)

    def _check_parts(self) -> None:
        action = ACTIONS[self.action]
        if lacking := [name for name in action.parts if name not in self.parts]:
            giving = [name for name, method in METHODS.items() if set(lacking) <= set(method.parts)]
            raise InputError(
                f"action={self.action} needs {' and '.join(lacking)}, which {self.origin} does not "
                f"hold; take a vector that was built with method={' or '.join(giving) or '…'}."
            )
        if not action.parts:
            return
        try:
            found = action.difference(self.vector, self.direction())
            fits = (self.vector + found).shape == self.vector.shape
        except (RuntimeError, ValueError):
            fits = False
        if not fits:
            shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in self.parts.items())
            raise InputError(
                f"The tensors of {self.origin} do not fit each other for action={self.action}: "
                f"{shapes}, direction {tuple(self.vector.shape)}. Build the vector again."
            )

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Refuse a step whose change is infinite, or nothing, in the dtype of the hidden states.

        Args:
            dtype: A floating one.

        Raises:
            InputError: With α, or with the target.
        """
        if self.alpha == 0:
            return
        # What every state changes by, or could: of clamp, that of a state whose projection is 0.
        reached = 1.0 if self.target is None else self.target
        changes = self.constant() if ACTIONS[self.action].constant else reached * self.unit
        changed = (self.alpha * changes.to(torch.float32)).to(dtype)
        setting = f"alpha={self.alpha:g}"
        if self.target is not None:
            setting += f" with target={self.target:g}"
        name = str(dtype).removeprefix("torch.")
        if not torch.isfinite(changed).all():
            raise InputError(
                f"{setting} of {self.origin} at layer {self.layer} is too large: what it adds is "
                f"infinite as {name}. Lower it, or take dtype=float32."
            )
        if self.target != 0 and not changed.any():
            raise InputError(
                f"{setting} of {self.origin} at layer {self.layer} is too small: what it adds is 0 "
                f"as {name}. Raise it, or leave the step out."
            )

    @property
    def unit(self) -> torch.Tensor:
        """Direction of length 1, float32, shape (hidden,)."""
        return torch.nn.functional.normalize(self.vector, dim=0)

    def direction(self, device: torch.device | str = "cpu") -> Direction:
        """Return what the action is given, float32, on a device."""
        given = Direction(self.vector, self.unit, self.target, self.parts)
        return given.to(torch.float32).to(device)

    def constant(self) -> torch.Tensor:
        """Return d, the difference at α = 1, of an action whose d is the same for every state.

        Returns:
            Float32, shape (hidden,).
        """
        assert ACTIONS[self.action].constant, self.action
        direction = self.direction()
        return ACTIONS[self.action].difference(direction.vector, direction)

    def summary(self) -> dict[str, Any]:
        """Return the step as JSON-like values, with a digest in place of each tensor."""
        parts = {name: tensor_digest(part) for name, part in sorted(self.parts.items())}
        return {
            "layer": self.layer,
            "alpha": float(self.alpha),
            "action": self.action,
            "positions": self.positions,
            "target": self.target,
            "norm": float(self.vector.norm()),
            "vector": tensor_digest(self.vector),
            **({"parts": parts} if parts else {}),
            **({"when": self.when.summary()} if self.when else {}),
            **({"site": self.site} if self.site != "block" else {}),
        }


@dataclass(frozen=True, eq=False)
class SteeringPlan:
    """All interventions on one model; steps at one layer are applied in their order.

    Attributes:
        steps: The interventions.
        built_from: Provenance of the vectors, for the leak guard and for results files.
    """

    steps: tuple[SteeringStep, ...] = ()
    built_from: tuple[Provenance, ...] = ()
    _widths: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vectors = [step.vector for step in self.steps if step.site == "block"]
        vectors += [step.when.unit for step in self.steps if step.when]
        widths = frozenset(vector.shape[0] for vector in vectors)
        if len(widths) > 1:
            raise InputError(f"The steering plan mixes vectors of widths {sorted(widths)}.")
        object.__setattr__(self, "_widths", widths)
        for first, second in itertools.combinations(self.steps, 2):
            _refuse_contradiction(first, second)

    @classmethod
    def from_vector(
        cls,
        vector: SteeringVector,
        layers: Iterable[int],
        *,
        alpha: float = 1.0,
        action: str = "add",
        positions: str = "generated",
        scale: str = "projection_std",
        target: float | None = None,
        when: Condition | None = None,
    ) -> SteeringPlan:
        """Return the plan that applies ``vector`` at ``layers``.

        Args:
            vector: Directions of these layers.
            layers: 0-based decoder blocks.
            alpha: Strength at each of them.
            action: See :class:`SteeringStep`.
            positions: See :class:`SteeringStep`.
            scale: See :meth:`lm_eval_trust.steering.vectors.LayerVector.scaled`.
            target: Projection to aim at; by default the trustworthy side's mean projection, for
                actions that need one.
            when: See :class:`SteeringStep`.

        Raises:
            InputError: The vector lacks a layer, or the settings are not possible together.
        """
        steps = []
        needed = ACTIONS[action]
        for index in layers:
            layer = vector.layer(index)
            wanted = layer.target if needed.needs_target and target is None else target
            steps.append(
                SteeringStep(
                    layer=index,
                    vector=layer.scaled(scale),
                    alpha=float(alpha),
                    action=action,
                    positions=positions,
                    target=wanted,
                    origin=vector.name,
                    parts={n: part for n, part in layer.parts.items() if n in needed.parts},
                    when=when,
                    site=vector.site,
                )
            )
        sources = (vector.provenance, when and when.provenance)
        return cls(tuple(steps), tuple(source for source in sources if source))

    def __add__(self, other: SteeringPlan) -> SteeringPlan:
        """Return the plan of both; contradictions between them are refused."""
        return SteeringPlan(self.steps + other.steps, self.built_from + other.built_from)

    @property
    def active_steps(self) -> tuple[SteeringStep, ...]:
        """Steps that change anything: those with α other than 0."""
        return tuple(step for step in self.steps if step.alpha != 0)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What active steps wait for, each once."""
        found = (step.when for step in self.active_steps)
        return tuple(dict.fromkeys(condition for condition in found if condition))

    def by_layer(self, site: str = "block") -> Mapping[int, tuple[SteeringStep, ...]]:
        """Return the active steps of each layer at a site, in their order."""
        steps = [step for step in self.active_steps if step.site == site]
        layers = sorted({step.layer for step in steps})
        return {i: tuple(step for step in steps if step.layer == i) for i in layers}

    def check(
        self, *, blocks: int, width: int, model: str, skipped: frozenset[int] = frozenset()
    ) -> None:
        """Raise unless the plan fits a model.

        Args:
            blocks: How many decoder blocks it has.
            width: Its hidden size.
            model: Its name, for messages.
            skipped: Those of its blocks that text does not run through.

        Raises:
            InputError: A layer is out of range or skipped, or the vectors have another width.
        """
        if self.steps:
            read = {step.when.layer for step in self.steps if step.when}
            layers = sorted({step.layer for step in self.steps} | read)
            check_layers(layers, blocks, model=model, skipped=skipped)
        for found in self._widths - {width}:
            raise InputError(
                f"The steering vector has width {found}, but {model} has hidden size {width}; "
                f"use a vector that was built from a model of the same size."
            )

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raise unless what the plan adds can be told in the dtype of the hidden states.

        Raises:
            InputError: See :meth:`SteeringStep.check_dtype`.
        """
        for step in self.active_steps:
            step.check_dtype(dtype)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of what the plan does; the same for all plans that do nothing."""
        return fingerprint({"steps": [step.summary() for step in self.active_steps]})

    def summary(self) -> dict[str, Any]:
        """Return the record for results files."""
        return {
            "fingerprint": self.fingerprint,
            "steps": [step.summary() | {"origin": step.origin} for step in self.steps],
            "built_from": [provenance.summary() for provenance in self.built_from],
        }


def _in_float32(number: float) -> bool:
    return abs(number) <= torch.finfo(torch.float32).max


def _refuse_contradiction(first: SteeringStep, second: SteeringStep) -> None:
    # All kinds of positions share the last prompt token, so steps of one layer always meet.
    if (first.layer, first.site) != (second.layer, second.site):
        return
    if first.vector.shape != second.vector.shape:
        return
    if ACTIONS[first.action].constant and ACTIONS[second.action].constant:
        return  # They add up.
    if abs(float(first.unit @ second.unit)) > _SAME_DIRECTION:
        raise InputError(
            f"Steering steps contradict each other: {first.action} ({first.origin}) and "
            f"{second.action} ({second.origin}) act on the same direction at layer {first.layer}. "
            f"Keep one of them."
        )

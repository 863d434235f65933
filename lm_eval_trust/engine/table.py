"""A worker's table of what steering adds to hidden states, and which row each token takes.

Each decoder block reads a token's row number from one buffer, which is written once per engine
step. A configuration owns three rows: before, at, and after the last prompt token; row 0 adds
nothing. A row contains an affine change of rank one, h → h + offset + ⟨h, read⟩ write, which covers
`add`, `clamp`, `ablate` and their sums. Whatever is not of this form runs as it is, on the tokens
that it concerns, in an engine without compiled graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Where a row's token stands: before, at, and after the last prompt token.
_PLACES = (("all",), ("all", "generated", "last_prompt"), ("all", "generated"))
#: A change counts as affine if it is predicted to this share of its size.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Affine:
    """The change h → offset + ⟨h, read⟩ write; all float32, shape (hidden,)."""

    offset: torch.Tensor
    read: torch.Tensor
    write: torch.Tensor


def _steps_at(steps: Iterable[SteeringStep], place: int) -> tuple[SteeringStep, ...]:
    return tuple(step for step in steps if step.positions in _PLACES[place])


def _apply(steps: Sequence[SteeringStep], states: torch.Tensor) -> torch.Tensor:
    """Return what steps add together to states of shape (tokens, hidden)."""
    precise = states.to(torch.promote_types(states.dtype, torch.float32))
    steered = precise
    for step in steps:
        direction = step.direction(states.device).to(precise.dtype)
        steered = steered + ACTIONS[step.action].change(steered, direction, step.alpha)
    return (steered - precise).to(states.dtype)


def affine_change(steps: Sequence[SteeringStep], width: int) -> Affine | None:
    """Return the change of steps in a row as an affine one of rank one, or ``None``.

    It is found by asking the steps themselves what they do to the basis, so an action of
    another package needs no declaration, and a wrong one cannot be made.
    """
    zero = torch.zeros(width)
    if all(ACTIONS[step.action].constant for step in steps):
        return Affine(_apply(steps, zero[None])[0], zero, zero) if steps else None
    offset = _apply(steps, zero[None])[0]
    linear = _apply(steps, torch.eye(width)) - offset
    strongest = linear[linear.norm(dim=1).argmax()]
    if not strongest.any():
        return Affine(offset, zero, zero)
    write = strongest / strongest.norm()
    found = Affine(offset, linear @ write, write)
    states = torch.randn(8, width, generator=torch.Generator().manual_seed(0)) * width**0.5
    wanted = _apply(steps, states)
    error = wanted - offset - (states @ found.read)[:, None] * write
    return found if error.norm() <= _ROUNDING * wanted.norm() else None


def check_affine(plan: SteeringPlan) -> None:
    """Raise unless compiled graphs can run a plan.

    Raises:
        InputError: Its change of some layer is not affine of rank one.
    """
    for layer, steps in plan.by_layer().items():
        for at in (_steps_at(steps, place) for place in range(3)):
            if at and affine_change(at, len(steps[0].vector)) is None:
                raise InputError(
                    f"What is done at layer {layer} ({', '.join(step.action for step in at)}) is "
                    f"no affine change of rank one, as compiled graphs need it; start the engine "
                    f"with enforce_eager=True (--enforce-eager)."
                )


@dataclass
class _Slot:
    """A configuration in the table."""

    number: int
    layers: frozenset[int]
    #: Layer → steps at each place, for changes that are not affine.
    ordered: dict[int, list[tuple[SteeringStep, ...]]] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)


class SteeringTable:
    """What the blocks of one worker add.

    Args:
        blocks: Number of decoder blocks of the whole model.
        width: Width of the hidden states.
        tokens: Most tokens of one engine step.
        slots: Most configurations at once.
        dtype: Dtype of the hidden states.
        device: Device of the hidden states.
        compiled: Whether blocks run in compiled graphs, which need all rows from the start.
    """

    def __init__(
        self,
        *,
        blocks: int,
        width: int,
        tokens: int,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
        compiled: bool,
    ) -> None:
        self._blocks, self._width, self._rows = blocks, width, 3 * slots + 1
        self._dtype, self._device, self.compiled = dtype, device, compiled
        self._host = torch.zeros(tokens, dtype=torch.int64, pin_memory=device.type == "cuda")
        self.row_of = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._offset: dict[int, torch.Tensor] = {}
        self._read: dict[int, torch.Tensor] = {}
        self._write: dict[int, torch.Tensor] = {}
        if compiled:
            for layer in range(blocks):
                self._allocate(layer, affine=True)
        self._free = list(range(slots))
        self._slots: dict[str, _Slot] = {}
        self._hot: frozenset[int] = frozenset()
        self._ordered: dict[int, list[tuple[tuple[SteeringStep, ...], torch.Tensor]]] = {}

    def _allocate(self, layer: int, *, affine: bool) -> None:
        shape = (self._rows, self._width)
        if layer not in self._offset:
            self._offset[layer] = torch.zeros(shape, dtype=self._dtype, device=self._device)
        if affine and layer not in self._read:
            self._read[layer] = torch.zeros(shape, dtype=torch.float32, device=self._device)
            self._write[layer] = torch.zeros(shape, dtype=torch.float32, device=self._device)

    def admit(self, plan: SteeringPlan, request: str) -> None:
        """Take a request in whose tokens run under a plan; the table has room for it.

        Raises:
            InputError: More configurations run at once than there are slots.
        """
        slot = self._slots.get(plan.fingerprint)
        if slot is None:
            slot = self._fill(plan)
        slot.users.add(request)

    def release(self, plan: SteeringPlan, request: str) -> None:
        """Let a request go; its plan's rows stay until their place is needed."""
        if plan.fingerprint in self._slots:
            self._slots[plan.fingerprint].users.discard(request)

    def _fill(self, plan: SteeringPlan) -> _Slot:
        if not self._free:
            idle = next((name for name, slot in self._slots.items() if not slot.users), None)
            if idle is None:
                raise InputError(
                    f"{len(self._slots)} steering plans run at once, and there are no more rows. "
                    f"Set LM_EVAL_TRUST_ENGINE_SLOTS to a larger number."
                )
            self._free.append(self._slots.pop(idle).number)
        by_layer = plan.by_layer()
        slot = _Slot(self._free.pop(), frozenset(by_layer))
        first = 3 * slot.number + 1
        for rows in (*self._offset.values(), *self._read.values()):
            rows[first : first + 3] = 0
        for layer, steps in by_layer.items():
            places = [_steps_at(steps, place) for place in range(3)]
            changes = [affine_change(at, self._width) if at else None for at in places]
            if any(at and found is None for at, found in zip(places, changes, strict=True)):
                slot.ordered[layer] = places
                continue
            self._allocate(layer, affine=any(c is not None and c.read.any() for c in changes))
            for row, found in enumerate(changes, first):
                if found is not None:
                    self._offset[layer][row] = found.offset.to(self._dtype)
                    if layer in self._read:
                        self._read[layer][row] = found.read.to(self._device)
                        self._write[layer][row] = found.write.to(self._device)
        self._slots[plan.fingerprint] = slot
        return slot

    def write_rows(self, batch: Iterable[tuple[SteeringPlan | None, int, int, int]]) -> None:
        """Say which row each token of the coming engine step takes.

        Args:
            batch: In the order of the tokens: plan of a request, index of its last prompt token,
                index of its first token of this step, and how many there are.
        """
        rows, at = self._host.numpy(), 0
        hot: set[int] = set()
        tokens: dict[tuple[str, int], list[int]] = {}
        for plan, end, first, count in batch:
            rows[at : at + count] = 0
            if plan is not None:
                slot = self._slots[plan.fingerprint]
                hot |= slot.layers
                before = min(max(end - first, 0), count)
                until = min(max(end + 1 - first, 0), count)
                bounds = (at, at + before, at + until, at + count)
                for place, (start, stop) in enumerate(itertools.pairwise(bounds)):
                    rows[start:stop] = 3 * slot.number + 1 + place
                    if slot.ordered:
                        tokens.setdefault((plan.fingerprint, place), []).extend(range(start, stop))
            at += count
        self.row_of[:at].copy_(self._host[:at], non_blocking=True)
        self._hot = frozenset(hot)
        self._ordered = {}
        for (name, place), chosen in tokens.items():
            index = torch.tensor(chosen, dtype=torch.int64, device=self._device)
            for layer, places in self._slots[name].ordered.items():
                if places[place] and chosen:
                    self._ordered.setdefault(layer, []).append((places[place], index))

    def steer(
        self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None
    ) -> torch.Tensor:
        """Return a block's output with what the table adds.

        Args:
            layer: 0-based decoder block.
            hidden: Shape (tokens, hidden), or (1, tokens, hidden) in models of transformers.
            residual: What vLLM keeps apart of the hidden state, which is the sum of both.
        """
        if not self.compiled and layer not in self._hot:
            return hidden
        rows = hidden.reshape(-1, self._width)
        apart = None if residual is None else residual.reshape(-1, self._width)
        return self._steered(layer, rows, apart).reshape(hidden.shape)

    def _steered(
        self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None
    ) -> torch.Tensor:
        steered = hidden
        if layer in self._offset:
            rows = self.row_of[: hidden.shape[0]]
            steered = hidden + self._offset[layer].index_select(0, rows)
            if layer in self._read:
                states = hidden.float() if residual is None else hidden.float() + residual.float()
                read = (states * self._read[layer].index_select(0, rows)).sum(dim=-1, keepdim=True)
                steered = steered + (read * self._write[layer].index_select(0, rows)).to(
                    hidden.dtype
                )
        for steps, tokens in self._ordered.get(layer, ()):
            states = hidden[tokens] if residual is None else hidden[tokens] + residual[tokens]
            steered = steered.index_add(0, tokens, _apply(steps, states))
        return steered

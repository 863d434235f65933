"""Apply a steering plan to a model while requests run.

One meaning of a position holds for every kind of request: position *p* of a row is its index
among the tokens that the model has seen, padding included, whether they come at once or one by
one through a cache. A row's *prompt end* is the index of its last prompt token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.attention_heads import heads_width, output_projection
from lm_eval_trust.models.decoder_blocks import (
    decoder_blocks,
    decoder_of,
    hidden_size,
    number_of_blocks,
    skipped_blocks,
)
from lm_eval_trust.models.transformers_internals import STATES, keys_seen
from lm_eval_trust.steering.actions import ACTIONS, Direction
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: What a decoder reads, by name; both have the positions on their second axis.
_INPUTS = ("input_ids", "inputs_embeds")


class Steerer:
    """Steers one model by one plan, inside :meth:`apply` and nowhere else.

    Args:
        model: A decoder-only model of transformers, wrapped by PEFT or not, on any devices.
        plan: What to do.

    Raises:
        InputError: The plan does not fit the model or its dtype, or its blocks cannot be found.
    """

    def __init__(self, model: nn.Module, plan: SteeringPlan) -> None:
        self.plan = plan
        self._passes: _Passes | None = None
        self._decoder: nn.Module = model
        self._width = 0
        self._heads: list[tuple[nn.Module, tuple[SteeringStep, ...]]] = []
        self._hooked: list[tuple[nn.Module, tuple[Condition, ...], tuple[SteeringStep, ...]]] = []
        if not plan.steps:
            return
        self._width = hidden_size(model)
        plan.check(
            blocks=number_of_blocks(model),
            width=self._width,
            model=getattr(model.config, "name_or_path", "") or type(model).__name__,
            skipped=skipped_blocks(model.config),
        )
        blocks = decoder_blocks(model)
        self._decoder = decoder_of(model)
        weights = self._decoder.parameters()
        dtype = next((w.dtype for w in weights if w.is_floating_point()), torch.float32)
        plan.check_dtype(dtype)
        steps, conditions = plan.by_layer(), plan.conditions
        for layer in sorted({*steps, *(condition.layer for condition in conditions)}):
            read = tuple(condition for condition in conditions if condition.layer == layer)
            self._hooked.append((blocks[layer], read, steps.get(layer, ())))
        for layer, of_heads in plan.by_layer("heads").items():
            width = heads_width(model, layer)
            for step in of_heads:
                if len(step.vector) != width:
                    raise InputError(
                        f"The heads' vector of {step.origin} has width {len(step.vector)}, but the "
                        f"heads of block {layer} have {width} together; build it from this model."
                    )
            self._heads.append((output_projection(model, layer), of_heads))

    @contextmanager
    def apply(self, prompt_ends: int | torch.Tensor | None = None) -> Iterator[None]:
        """Steer every forward pass of the model until the block ends, also by an exception.

        Args:
            prompt_ends: Index of the last prompt token: one number for all rows, or an integer
                tensor of shape (rows,); −1 for a row whose prompt lies before its first token.
                ``None`` takes each forward pass without a cached prefix as a new prompt that ends
                at its last real token by the attention mask; generation without a cache needs
                the index.

        Raises:
            RuntimeError: This steerer is active already.
        """
        with self.request(prompt_ends), self.hooks():
            yield

    @contextmanager
    def request(self, prompt_ends: int | torch.Tensor | None = None) -> Iterator[None]:
        """Set where prompts end, for the passes inside that run under :meth:`hooks`.

        For a model of whose passes only some are steered; see :meth:`apply` for the arguments.
        """
        if self._passes is not None:
            raise RuntimeError("This model is being steered already; end the other block first.")
        self._passes = _Passes(prompt_ends, expected=len(self._hooked) + len(self._heads))
        try:
            yield
        finally:
            self._passes = None

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Steer the passes inside; outside of a :meth:`request` they stay as they are."""
        passes = self._passes
        if passes is None or not (self._hooked or self._heads):
            yield
            return
        with ExitStack() as stack:
            before = self._decoder.register_forward_pre_hook(passes.begin, with_kwargs=True)
            stack.callback(before.remove)
            for block, conditions, steps in self._hooked:
                hook = _BlockHook(passes, conditions, steps, self._width)
                stack.callback(block.register_forward_hook(hook).remove)
            for projection, of_heads in self._heads:
                before_it = _HeadsHook(passes, of_heads)
                stack.callback(projection.register_forward_pre_hook(before_it).remove)
            stack.callback(self._decoder.register_forward_hook(passes.finish).remove)
            yield


class _Passes:
    """Where the current forward pass is in its rows."""

    def __init__(self, prompt_ends: int | torch.Tensor | None, *, expected: int) -> None:
        self._given = prompt_ends
        self._expected = expected
        self._steered_blocks = 0
        self._seen_ends: int | torch.Tensor = -1
        self.offset = 0
        self._decided: dict[Condition, torch.Tensor] = {}
        self._counted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # The argument is called past_key_values, cache or cache_params, by transformers' version.
        values = (*args, *kwargs.values())
        cache = next((value for value in values if hasattr(value, "get_seq_length")), None)
        if cache is None and (given := [name for name in STATES if kwargs.get(name) is not None]):
            raise InputError(
                f"{type(module).__name__} keeps what it has read in {given[0]!r}, which does not "
                f"tell how many tokens that were, so that a steering does not know where it is. "
                f"Evaluate it on tasks by log-likelihood, which need no such state."
            )
        tokens = next(v for v in (*args, *(kwargs.get(k) for k in _INPUTS)) if v is not None)
        self.offset = self._positions_in(cache, tokens.shape[1]) if cache is not None else 0
        self._steered_blocks = 0
        if self.offset == 0:
            self._decided.clear()
        if self._given is None and self.offset == 0:
            self._seen_ends = _last_real_tokens(tokens.shape[1], kwargs.get("attention_mask"))

    def _positions_in(self, cache: Any, new: int) -> int:
        """Return how many positions a cache has seen before a pass with some new ones."""
        try:
            # A first block that keeps a state instead of keys tells no length; another one does.
            return int(cache.get_seq_length()) or keys_seen(cache)
        except ValueError:
            # The state of a state-space model has no length; its passes are counted.
            seen = self._counted.get(cache, 0)
            self._counted[cache] = seen + new
            return seen

    def finish(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._steered_blocks != self._expected:
            raise InputError(
                f"{self._steered_blocks} of {self._expected} steered blocks ran in a forward pass "
                f"of {type(module).__name__}: text skips some of them, or they are not called as "
                f"modules. Steer other layers, or a model of a family in docs/families.md."
            )

    def count(self) -> None:
        self._steered_blocks += 1

    def ends(self, rows: int) -> int | torch.Tensor:
        """Return the prompt ends for a batch of ``rows``: beams and samples repeat each row."""
        ends = self._seen_ends if self._given is None else self._given
        return ends if isinstance(ends, int) else _repeated(ends, rows)

    def decide(self, condition: Condition, hidden: torch.Tensor, ends: int | torch.Tensor) -> None:
        """Decide for the rows whose prompts end in this pass; others keep what they had."""
        rows, width = hidden.shape[:2]
        places = torch.as_tensor(ends, device=hidden.device).expand(rows) - self.offset
        here = (places >= 0) & (places < width)
        states = hidden[torch.arange(rows, device=hidden.device), places.clamp(0, width - 1)]
        before = self.chosen(condition, rows, hidden.device)
        self._decided[condition] = torch.where(here, condition.holds(states), before)

    def chosen(self, condition: Condition, rows: int, device: torch.device) -> torch.Tensor:
        """Return which rows of a batch are steered, bool; none before a prompt's end was seen."""
        decided = self._decided.get(condition)
        if decided is None:
            return torch.zeros(rows, dtype=torch.bool, device=device)
        return _repeated(decided, rows).to(device)


class _Steering:
    """Steps at one place, while passes run."""

    def __init__(self, passes: _Passes, steps: tuple[SteeringStep, ...]) -> None:
        self._passes, self._steps = passes, steps
        self._on_device: dict[torch.device, list[Direction]] = {}

    def _steered(self, hidden: torch.Tensor) -> torch.Tensor:
        passes, rows = self._passes, hidden.shape[0]
        ends = passes.ends(rows)
        for step, direction in zip(self._steps, self._directions(hidden.device), strict=True):
            steered = steer(hidden, step, direction, ends, passes.offset)
            if step.when is not None:
                chosen = passes.chosen(step.when, rows, hidden.device)
                steered = torch.where(chosen[:, None, None], steered, hidden)
            hidden = steered
        return hidden

    def _directions(self, device: torch.device) -> list[Direction]:
        # Blocks of a sharded model live on different devices.
        if device not in self._on_device:
            self._on_device[device] = [step.direction(device) for step in self._steps]
        return self._on_device[device]


class _HeadsHook(_Steering):
    """Hook before the output projection of one block's attention."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._passes.count()
        if not args or args[0].ndim != 3:
            raise RuntimeError(
                f"{type(module).__name__} does not take (rows, positions, heads) as its first "
                f"argument; this version of transformers is not supported."
            )
        return (self._steered(args[0]), *args[1:])


class _BlockHook(_Steering):
    """Forward hook of one decoder block."""

    def __init__(
        self,
        passes: _Passes,
        conditions: tuple[Condition, ...],
        steps: tuple[SteeringStep, ...],
        width: int,
    ) -> None:
        super().__init__(passes, steps)
        self._conditions, self._width = conditions, width

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        self._passes.count()
        # transformers 5 returns a tensor, transformers 4 a tuple that starts with it.
        hidden = output[0] if isinstance(output, tuple) else output
        width = self._width
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or hidden.shape[-1] != width:
            shape = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden)
            raise RuntimeError(
                f"{type(module).__name__} returned {shape}, expected a tensor of shape "
                f"(rows, positions, {width}); this version of transformers is not supported."
            )
        ends = self._passes.ends(hidden.shape[0])
        for condition in self._conditions:
            self._passes.decide(condition, hidden, ends)
        hidden = self._steered(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def steer(
    hidden: torch.Tensor,
    step: SteeringStep,
    direction: Direction,
    ends: int | torch.Tensor,
    offset: int,
) -> torch.Tensor:
    """Return hidden states changed at a step's positions, as a copy.

    Args:
        hidden: Output of the step's block, shape (rows, positions, width).
        step: What to do.
        direction: Its direction, on the device of ``hidden``.
        ends: Index of the last prompt token: of all rows, or int64 of shape (rows,).
        offset: Index of the first of these positions.
    """
    if step.positions == "all":
        return hidden + _change(hidden, step, direction)
    if isinstance(ends, torch.Tensor):
        places = offset + torch.arange(hidden.shape[1], device=hidden.device)
        ends = ends.to(hidden.device)[:, None]
        chosen = places >= ends if step.positions == "generated" else places == ends
        changed = hidden + _change(hidden, step, direction)
        return torch.where(chosen[..., None], changed, hidden)
    first = ends - offset
    last = first + 1 if step.positions == "last_prompt" else hidden.shape[1]
    first = max(first, 0)
    if first >= min(last, hidden.shape[1]):
        return hidden
    steered = hidden.clone()
    part = hidden[:, first:last]
    steered[:, first:last] = part + _change(part, step, direction)
    return steered


def _change(hidden: torch.Tensor, step: SteeringStep, direction: Direction) -> torch.Tensor:
    """Return what is added, in the dtype of ``hidden``, broadcastable to its shape."""
    action, states = ACTIONS[step.action], hidden
    if not action.constant:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        states, direction = hidden.to(precise), direction.to(precise)
    return action.change(states, direction, step.alpha).to(hidden.dtype)


def _repeated(values: torch.Tensor, rows: int) -> torch.Tensor:
    """Return what belongs to prompts for a batch of ``rows``, in which each is repeated."""
    if values.shape[0] == rows:
        return values
    repeats, rest = divmod(rows, values.shape[0])
    if rest:
        raise RuntimeError(f"{rows} rows do not repeat {values.shape[0]} prompts evenly.")
    return values.repeat_interleave(repeats)


def _last_real_tokens(length: int, mask: Any) -> int | torch.Tensor:
    """Return the index of each row's last real token."""
    if mask is None:
        return length - 1
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        raise InputError(
            "Cannot read the end of the prompt from this attention mask; pass prompt_ends."
        )
    places = torch.arange(mask.shape[1], device=mask.device)
    return (places * (mask != 0)).amax(dim=1)

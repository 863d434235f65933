"""One forward pass for many steering configurations: whatever they have in common runs once.

Rows of a pass are prompts times configurations. Two rows whose tokens were the same so far hold
the same states up to the first block at which their steering has differed. So the decoder blocks
are divided into stages at the steered layers, and each stage runs one row for all that cannot
differ there. Prompts before their steered positions, instructions that prompts begin with, blocks
below the steered one, rows whose condition for steering does not hold, configurations that have
generated the same tokens: all of it follows from this one rule. Rows that have ended share one row,
since nobody reads what comes after.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lm_eval_trust.models.decoder_blocks import (
    decoder_blocks,
    decoder_of,
    hidden_size,
    text_blocks,
)
from lm_eval_trust.models.transformers_internals import CACHE, StageCache, replaced_forwards
from lm_eval_trust.steering.actions import Direction
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.hooks import steer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Stands for a padded place in what tells rows apart.
_PADDED = -1
#: Rows that fall away are dropped when this share of them is left: it costs a copy of the cache.
_COPY_BELOW = 0.75
#: Stands for all tokens of a row that has ended.
_ENDED = -2


@dataclass
class _Stage:
    """Blocks between two layers at which something is steered or decided, and the rows they run.

    Attributes:
        first: First block.
        last: Last block, whose output is steered next; there is none in the stage after a steered
            last block of all.
        steered: Row of the whole → whether a layer below has changed one of its positions so far.
        cache: Cache of the stage's blocks.
        row_of: Row of the whole → row here.
        rows: How many there are here.
    """

    first: int
    last: int
    steered: torch.Tensor
    cache: StageCache
    row_of: torch.Tensor
    rows: int = 1


@dataclass(frozen=True)
class BatchedOutput:
    """What a pass gave.

    Attributes:
        logits: Logits of the rows that differ, shape (rows that differ, positions kept,
            vocabulary).
        row_of: Row of the whole → row of ``logits``, int64, shape (rows,).
    """

    logits: torch.Tensor
    row_of: torch.Tensor


class BatchedForward:
    """A model read by several steering plans at once, with a cache of what it has read.

    Row r belongs to prompt r // len(plans) and to plan r % len(plans). All prompts end at the same
    column.

    Args:
        model: A causal model of transformers with decoder blocks as modules.
        plans: The configurations; each has to fit the model.
        prompts: How many prompts there are.
        prompt_end: Column of every prompt's last token; −1 for none, so all is generated.
    """

    def __init__(
        self, model: nn.Module, plans: Sequence[SteeringPlan], *, prompts: int, prompt_end: int
    ) -> None:
        self._model, self._end = model, prompt_end
        self._decoder, self._blocks = decoder_of(model), decoder_blocks(model)
        self._device = next(model.parameters()).device
        self._plans = [plan.by_layer() for plan in plans]
        self._conditions = {condition for plan in plans for condition in plan.conditions}
        self._decided: dict[Condition, torch.Tensor] = {}
        self._directions: dict[SteeringStep, Direction] = {}
        rows = prompts * len(plans)
        self._configuration = torch.arange(rows, device=self._device) % len(plans)
        self._history = torch.zeros(rows, dtype=torch.int64, device=self._device)
        self._mask = torch.zeros((rows, 0), dtype=torch.int64, device=self._device)
        self._ended = torch.zeros(rows, dtype=torch.bool, device=self._device)
        self._stages = list(self._divide(rows))

    @property
    def length(self) -> int:
        """Number of positions that were read."""
        return self._mask.shape[1]

    def end(self, rows: torch.Tensor) -> None:
        """Say whose logits do not matter any more.

        Args:
            rows: bool, shape (rows,); those that have ended before stay ended.
        """
        self._ended |= rows

    def read(self, tokens: torch.Tensor, mask: torch.Tensor, *, keep: int) -> BatchedOutput:
        """Read further columns.

        Args:
            tokens: int64, shape (rows, columns).
            mask: 1 for real tokens and 0 for padding, of the same shape.
            keep: How many of the last columns to return the logits of.
        """
        marked = torch.where(mask != 0, tokens, _PADDED)
        kept = tokens.shape[1] - keep
        parted = {place for place in self._columns_to_part(marked) if place < kept}
        bounds = sorted({0, kept, *parted})
        for first, last in itertools.pairwise(bounds):
            self._read(tokens[:, first:last], mask[:, first:last], self._decoder)
        logits = self._read(tokens[:, kept:], mask[:, kept:], self._model).logits
        return BatchedOutput(logits, self._stages[-1].row_of)

    def _columns_to_part(self, marked: torch.Tensor) -> Iterator[int]:
        """Yield where it pays to part columns: after a common beginning, before steering sets in.

        What comes after a place where rows differ cannot be shared any more within one pass.
        """
        differing = (marked != marked[:1]).any(dim=0).nonzero()
        if len(differing):
            yield int(differing[0])
        if self._end > self.length:
            yield self._end - self.length

    def _read(self, tokens: torch.Tensor, mask: torch.Tensor, owner: nn.Module) -> Any:
        """Run all stages over some columns; return the last one's output."""
        offset, width = self.length, tokens.shape[1]
        self._mask = torch.cat([self._mask, mask], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
        marked = torch.where(mask != 0, tokens, _PADDED)
        keyed = torch.cat([self._history[:, None], marked], dim=1)
        keyed[self._ended] = _ENDED
        self._history = torch.unique(keyed, dim=0, return_inverse=True)[1]
        hidden, output, before = None, None, None
        for stage in self._stages:
            if before is not None and offset <= self._end < offset + width:
                assert hidden is not None
                self._decide(hidden[:, self._end - offset], before)
            chosen = self._assign_rows(stage, offset, width)
            if before is not None:
                assert hidden is not None
                hidden = self._steered(hidden[before.row_of[chosen]], before.last, chosen, offset)
            is_last = stage is self._stages[-1]
            with self._only(stage, hidden) as captured:
                output = (owner if is_last else self._decoder)(
                    input_ids=tokens[chosen],
                    attention_mask=self._mask[chosen],
                    position_ids=places[chosen],
                    use_cache=True,
                    **{CACHE: stage.cache},
                )
            hidden, before = captured[0] if captured else None, stage
        return output

    def _divide(self, rows: int) -> Iterator[_Stage]:
        decisive = {condition.layer for condition in self._conditions}
        boundaries = sorted({layer for plan in self._plans for layer in plan} | decisive)
        read = text_blocks(self._model)
        firsts = (0, *(layer + 1 for layer in boundaries))
        for first, last in zip(firsts, (*boundaries, len(self._blocks) - 1), strict=True):
            yield _Stage(
                first,
                last,
                torch.zeros(rows, dtype=torch.bool, device=self._device),
                # A block that text skips keeps no keys, whose number would tell the length.
                StageCache(next((block for block in read if block >= first), first)),
                torch.zeros(rows, dtype=torch.int64, device=self._device),
            )

    def _assign_rows(self, stage: _Stage, offset: int, width: int) -> torch.Tensor:
        """Give each row of the whole its row of the stage; return one of the whole for each."""
        for number, plan in enumerate(self._plans):
            below = (step for layer, steps in plan.items() if layer < stage.first for step in steps)
            for step in below:
                if self._acts(step, offset, width):
                    stage.steered |= (self._configuration == number) & self._chosen(step)
        alone = stage.steered & ~self._ended
        own = torch.where(alone, self._configuration + 1, 0)
        keys = self._history * (len(self._plans) + 1) + own
        different, row_of = torch.unique(keys, return_inverse=True)
        if offset and len(different) > _COPY_BELOW * stage.rows:
            apart = torch.unique(torch.stack([stage.row_of, keys], dim=1), dim=0)
            if len(apart) == stage.rows:
                return self._representatives(stage.row_of, stage.rows)
        chosen = self._representatives(row_of, len(different))
        if offset:
            stage.cache.select(stage.row_of[chosen])
        stage.row_of, stage.rows = row_of, len(different)
        return chosen

    def _decide(self, states: torch.Tensor, stage: _Stage) -> None:
        """Decide the conditions that are read after a stage from its states at prompts' ends."""
        for condition in self._conditions:
            if condition.layer == stage.last:
                self._decided[condition] = condition.holds(states).to(self._device)[stage.row_of]

    def _chosen(self, step: SteeringStep) -> torch.Tensor:
        """Return which rows of the whole a step changes as far as its condition goes, bool."""
        if step.when is None:
            return torch.ones_like(self._ended)
        # Before a prompt's end, or without one, nothing is known.
        return self._decided.get(step.when, torch.zeros_like(self._ended))

    def _representatives(self, row_of: torch.Tensor, rows: int) -> torch.Tensor:
        """Return the first row of the whole that stands for each of the rows."""
        everyone = torch.arange(len(row_of), device=self._device)
        none = torch.full((rows,), len(row_of), device=self._device)
        return none.scatter_reduce(0, row_of, everyone, "amin")

    def _acts(self, step: SteeringStep, offset: int, width: int) -> bool:
        """Tell whether a step changes one of these columns."""
        if step.positions == "last_prompt":
            return offset <= self._end < offset + width
        return step.positions == "all" or self._end < offset + width

    def _steered(
        self, hidden: torch.Tensor, layer: int, chosen: torch.Tensor, offset: int
    ) -> torch.Tensor:
        """Apply every plan's steps at a layer to its rows of ``hidden``, which is changed."""
        configuration = self._configuration[chosen]
        for number, plan in enumerate(self._plans):
            steps = [s for s in plan.get(layer, ()) if self._acts(s, offset, hidden.shape[1])]
            if not steps:
                continue
            rows = (configuration == number).nonzero()[:, 0].to(hidden.device)
            states = hidden[rows]
            for step in steps:
                direction = self._on_device(step, hidden.device)
                steered = steer(states, step, direction, self._end, offset)
                mine = self._chosen(step)[chosen[rows.to(chosen.device)]].to(hidden.device)
                states = torch.where(mine[:, None, None], steered, states)
            hidden[rows] = states
        return hidden

    def _on_device(self, step: SteeringStep, device: torch.device) -> Direction:
        if step not in self._directions:
            self._directions[step] = step.direction(device)
        return self._directions[step]

    @contextmanager
    def _only(self, stage: _Stage, hidden: torch.Tensor | None) -> Iterator[list[torch.Tensor]]:
        """Let the model run a stage's blocks only, on ``hidden``; yield what the last one gives."""
        captured: list[torch.Tensor] = []
        forwards: dict[nn.Module, Callable[..., torch.Tensor]] = {}
        for number, block in enumerate(self._blocks):
            if number == stage.first - 1:
                assert hidden is not None
                forwards[block] = _returning(hidden)
            elif not stage.first <= number <= stage.last:
                forwards[block] = _passing
        hook = None
        if stage.first <= stage.last < len(self._blocks):
            hook = self._blocks[stage.last].register_forward_hook(_capturing(captured, self._model))
        try:
            with replaced_forwards(forwards):
                yield captured
        finally:
            if hook is not None:
                hook.remove()


def _passing(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return hidden_states


def _returning(hidden: torch.Tensor) -> Callable[..., torch.Tensor]:
    return lambda *args, **kwargs: hidden


def _capturing(captured: list[torch.Tensor], model: nn.Module) -> Callable[..., None]:
    width = hidden_size(model)

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, torch.Tensor) or output.shape[-1] != width:
            raise RuntimeError(
                f"{type(module).__name__} does not return its hidden states as one tensor; this "
                f"model cannot be swept by shared passes."
            )
        captured.append(output)

    return capture

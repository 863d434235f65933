"""Continuations scored by several steering plans, in shared passes or one plan after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from lm_eval_trust.models.decoder_blocks import text_config
from lm_eval_trust.models.families import TESTED
from lm_eval_trust.models.tokens import padded_batch
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.batched_forward import BatchedForward

#: Share of the free memory that keys and values of one pass may take.
_CACHE_SHARE = 0.4
#: Values of the vocabulary at once, in a pass that scores.
_LOGITS = 1 << 27
#: Settings that let a block see only what stands so many columns before.
_WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size")


@dataclass(frozen=True)
class Scored:
    """What one configuration says to one continuation.

    Attributes:
        logprob: Sum of the log-probabilities of its tokens, in nats.
        greedy: Whether greedy decoding would give it.
        divergence: Sum over its positions of KL(unsteered ‖ steered), in nats.
    """

    logprob: float
    greedy: bool
    divergence: float


@dataclass(frozen=True)
class Sequences:
    """Token rows whose prompts end at one column.

    Attributes:
        tokens: int64, shape (rows, columns).
        mask: 1 for real tokens, of the same shape.
        prompt_end: The column.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    prompt_end: int


def rows_at_once(model: nn.Module, columns: int, *, kept: int) -> int:
    """Return how many rows a pass may have by the memory of their keys and logits.

    Args:
        model: Whose rows they are.
        columns: Columns of each row.
        kept: Columns of each row whose logits are needed.
    """
    config = text_config(model)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    parameter = next(model.parameters())
    a_column = 2 * config.num_hidden_layers * heads * width * parameter.element_size()
    budget = _CACHE_SHARE * _free_memory(parameter.device)
    vocabulary = int(config.vocab_size)
    return max(1, min(int(budget / a_column / columns), _LOGITS // (vocabulary * kept)))


def _free_memory(device: torch.device) -> float:
    """Return bytes that can be had on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def may_pad_within(model: Any) -> bool:
    """Tell whether padding may stand between a prompt's tokens, whose positions are then given.

    Not where a block counts columns instead of positions, as sliding windows do.
    """
    config = text_config(model)
    windows = any(getattr(config, name, None) for name in _WINDOWS)
    kinds = getattr(config, "layer_types", None) or ()
    return (
        str(model.config.model_type) in TESTED
        and not windows
        and all(kind == "full_attention" for kind in kinds)
    )


def aligned_prompts(tokens: torch.Tensor, mask: torch.Tensor, *, padded_within: bool) -> Sequences:
    """Lay out prompts padded on the left so that what all begin with is in the same columns.

    The padding goes behind the common beginning; the width stays.

    Args:
        tokens: int64, shape (prompts, columns).
        mask: 1 for real tokens, of the same shape.
        padded_within: Whether padding may stand between a row's tokens; if not, it stays before
            them.
    """
    rows = [row[real != 0] for row, real in zip(tokens, mask, strict=True)]
    common = _common_beginning([row.tolist() for row in rows]) if padded_within else 0
    laid, real = torch.zeros_like(tokens), torch.zeros_like(mask)
    for i, row in enumerate(rows):
        laid[i, :common], real[i, :common] = row[:common], 1
        rest = row[common:]
        laid[i, -len(rest) :], real[i, -len(rest) :] = rest, 1
    return Sequences(laid, real, tokens.shape[1] - 1)


def aligned_continuations(
    inputs: Sequence[Sequence[int]], prompt_ends: Sequence[int], *, padded_within: bool
) -> Sequences:
    """Lay out whole inputs so that all prompts end at the same column.

    Args:
        inputs: Token ids of each row.
        prompt_ends: Index of the last prompt token in each; −1 for none, in all or in none.
        padded_within: See :func:`aligned_prompts`.
    """
    before = max(prompt_ends)
    after = max(len(row) - end for row, end in zip(inputs, prompt_ends, strict=True))
    tokens = torch.zeros((len(inputs), before + after), dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    prompts = [list(row[:end]) for row, end in zip(inputs, prompt_ends, strict=True) if end > 0]
    together = padded_within and len(prompts) == len(inputs)
    common = _common_beginning(prompts) if together else 0
    for i, (row, end) in enumerate(zip(inputs, prompt_ends, strict=True)):
        places = [*range(common), *range(before - end + common, before - end + len(row))]
        tokens[i, places], mask[i, places] = torch.tensor(row), 1
    return Sequences(tokens, mask, before)


@dataclass(frozen=True)
class Continuations:
    """Continuations to be scored together.

    Attributes:
        inputs: Tokens that each row is fed, the continuation's last one left out.
        wanted: Tokens whose log-probabilities are summed: what the last positions predict.
        prompt_ends: See :func:`aligned_continuations`.
    """

    inputs: Sequence[Sequence[int]]
    wanted: Sequence[Sequence[int]]
    prompt_ends: Sequence[int]


def score(
    model: nn.Module,
    plans: Sequence[SteeringPlan],
    asked: Continuations,
    *,
    dtype: torch.dtype | None = None,
) -> list[list[Scored]]:
    """Score continuations by every plan, in shared passes.

    Args:
        model: A causal model of transformers.
        plans: The first one is what the others' divergence is measured from.
        asked: The continuations.
        dtype: Dtype of the log-probabilities; by default that of the logits, as in the harness.

    Returns:
        A list for each row, of an entry for each plan.
    """
    inputs, prompt_ends = asked.inputs, asked.prompt_ends
    rows = aligned_continuations(inputs, prompt_ends, padded_within=may_pad_within(model))
    shared = BatchedForward(model, plans, prompts=len(inputs), prompt_end=rows.prompt_end)
    device = next(model.parameters()).device
    tokens, mask = (
        part.to(device).repeat_interleave(len(plans), dim=0) for part in (rows.tokens, rows.mask)
    )
    after = tokens.shape[1] - max(rows.prompt_end, 0)
    with torch.inference_mode():
        output = shared.read(tokens, mask, keep=after)
    first = tokens.shape[1] - output.logits.shape[1]
    found = []
    for i, wanted in enumerate(asked.wanted):
        # The row's last token stands as far after its prompt's end as it does in its input.
        last = rows.prompt_end + len(inputs[i]) - prompt_ends[i] - first
        mine = output.row_of[i * len(plans) : (i + 1) * len(plans)]
        logits = output.logits[mine, last - len(wanted) : last]
        found.append(_scored(logits, torch.tensor(wanted, device=logits.device), dtype))
    return found


def score_apart(
    model: nn.Module,
    plans: Sequence[SteeringPlan],
    asked: Continuations,
    *,
    dtype: torch.dtype | None = None,
) -> list[list[Scored]]:
    """Score continuations by one plan after the other, in their own passes; see :func:`score`.

    Padding is on the right, where a causal model does not see it.
    """
    inputs, ends = asked.inputs, torch.tensor(asked.prompt_ends)
    batch = padded_batch(inputs, side="right", device=next(model.parameters()).device)
    found: list[list[torch.Tensor]] = [[] for _ in inputs]
    for plan in plans:
        with Steerer(model, plan).apply(ends), torch.inference_mode():
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        for i, wanted in enumerate(asked.wanted):
            # A copy, so that the rest of the logits is freed.
            found[i].append(logits[i, len(inputs[i]) - len(wanted) : len(inputs[i])].clone())
    return [
        _scored(torch.stack(of_row), torch.tensor(wanted, device=of_row[0].device), dtype)
        for of_row, wanted in zip(found, asked.wanted, strict=True)
    ]


def scoring_batches(
    requests: Sequence[Any], lengths: Sequence[int], kept: Sequence[int], *, plans: int, model: Any
) -> Iterator[list[Any]]:
    """Divide requests, which are sorted, into passes that fit into memory.

    Args:
        requests: Anything.
        lengths: Columns of each.
        kept: Columns of each whose logits are needed.
        plans: Configurations of a pass.
        model: Whose keys and logits they are.
    """
    batch: list[Any] = []
    longest = widest = 0
    for request, length, keep in zip(requests, lengths, kept, strict=True):
        longest, widest = max(longest, length), max(widest, keep)
        if batch and (len(batch) + 1) * plans > rows_at_once(model, longest, kept=widest):
            yield batch
            batch, longest, widest = [], length, keep
        batch.append(request)
    if batch:
        yield batch


def _scored(logits: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype | None) -> list[Scored]:
    """Return an entry for each plan from logits (plans, continuation, vocabulary)."""
    logprobs = logits.log_softmax(dim=-1, dtype=dtype)
    of_wanted = logprobs.gather(2, wanted.expand(len(logits), -1)[..., None])[..., 0].sum(dim=1)
    greedy = (logits.argmax(dim=-1) == wanted).all(dim=1)
    reference = logprobs[:1]
    divergence = (reference.exp() * (reference - logprobs)).sum(dim=(1, 2))
    return [
        Scored(*values)
        for values in zip(
            of_wanted.tolist(), greedy.tolist(), divergence.clamp(min=0).tolist(), strict=True
        )
    ]


def _common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows begin with, less than the shortest has."""
    shortest = min(map(len, rows))
    first = rows[0]
    for place in range(shortest - 1):
        if any(row[place] != first[place] for row in rows):
            return place
    return max(shortest - 1, 0)

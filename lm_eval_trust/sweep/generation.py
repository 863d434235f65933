"""The shared pass as a model of transformers, so ``generate`` prepares the decoding."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteriaList,
)
from transformers.cache_utils import Cache

from lm_eval_trust.evaluate.lm_eval_internals import rows_with_stop_sequence
from lm_eval_trust.models.transformers_internals import CACHE, LentModel, padding_token
from lm_eval_trust.sweep.batched_forward import BatchedForward


class BatchedCache(Cache):  # type: ignore[misc]
    """What ``generate`` hands round in place of a cache: the pass keeps its own.

    Args:
        shared: The pass.
    """

    def __init__(self, shared: BatchedForward) -> None:
        super().__init__(layers=[])
        self.shared = shared
        #: Whether a logit was no number before the row had ended, bool of shape (rows,).
        self.broken = torch.zeros(0, dtype=torch.bool)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns were read."""
        return self.shared.length


class BatchedCausalLM(LentModel):
    """A causal model whose rows are prompts times steering configurations.

    Args:
        model: The model that reads.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        cache: BatchedCache,
        attention_mask: torch.Tensor | None = None,
        **settings: Any,
    ) -> None:
        """Say to ``generate`` what a pass takes; :func:`decode_greedily` reads by itself."""
        raise RuntimeError("A shared pass decodes by custom_generate=decode_greedily only.")


def decode_greedily(
    model: BatchedCausalLM,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **settings: Any,
) -> torch.Tensor:
    """Decode greedily, as ``generate`` does, with what ``generate`` has prepared.

    The best token is looked for once in rows that do not differ; their logits are never copied,
    since at a large vocabulary that takes as long as some blocks.

    Args:
        model: The model of ``generate``.
        input_ids: Prompts, shape (rows, columns).
        logits_processor: Applied to the logits of every row, if there is any.
        stopping_criteria: Stopping criteria of ``generate`` and of the harness.
        generation_config: Holds the padding token.
        **settings: The cache, which is the pass, and ``attention_mask`` of the prompts, which
            ``generate`` leaves out where nothing is padded; it hands on more.

    Returns:
        Prompts and new tokens, shape (rows, columns and new ones).
    """
    cache: BatchedCache = settings[CACHE]
    shared, padding = cache.shared, padding_token(generation_config)
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    cache.broken = torch.zeros_like(ended)
    given = settings.get("attention_mask")
    tokens, mask = input_ids, torch.ones_like(input_ids) if given is None else given
    while not ended.all():
        output = shared.read(tokens, mask, keep=1)
        logits = output.logits[:, -1]
        if logits_processor:
            scores = logits_processor(input_ids, logits[output.row_of].to(torch.float32, copy=True))
            largest, chosen = scores.max(dim=-1)
        else:
            largest, chosen = (part[output.row_of] for part in logits.max(dim=-1))
        # The largest of some values with a NaN among them is NaN.
        cache.broken |= ~ended & ~(largest.abs() < torch.inf)
        if padding is not None:
            chosen = torch.where(ended, padding.to(chosen), chosen)
        input_ids = torch.cat([input_ids, chosen[:, None]], dim=1)
        ended = ended | stopping_criteria(input_ids, None)
        shared.end(ended | _stopped(stopping_criteria, ended))
        tokens = chosen[:, None]
        mask = torch.ones_like(tokens)
    return input_ids


def _stopped(criteria: StoppingCriteriaList, ended: torch.Tensor) -> torch.Tensor:
    """Return which rows contain a stop sequence of the harness, which cuts what comes after."""
    found = torch.zeros_like(ended)
    for criterion in criteria:
        rows = rows_with_stop_sequence(criterion)
        if rows is not None:
            found |= torch.tensor(rows, device=ended.device)
    return found

"""Statements as token ids: the same for every way of batching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import text_config

#: Names under which configurations declare how many positions the model knows.
_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")


def encode(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, with the tokenizer's own special tokens.

    A text without tokens (an empty statement, for a tokenizer that adds no beginning-of-sequence
    token) is read as that one token, or as the end-of-sequence token where there is none: the
    same prefix that the harness scores an empty context with.

    Raises:
        InputError: A text is longer than the model's context; nothing is cut off.
    """
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    limit = context_length(model)
    for index, tokens in enumerate(ids):
        if limit is not None and len(tokens) > limit:
            raise InputError(
                f"Statement {index} has {len(tokens)} tokens, the model reads at most {limit}; "
                f"shorten or drop it. It starts {texts[index][:60]!r}."
            )
    return [tokens or [_prefix_token(tokenizer)] for tokens in ids]


def padded_batch(
    rows: Sequence[Sequence[int]],
    *,
    side: Literal["left", "right"] = "left",
    device: torch.device | str = "cpu",
) -> dict[str, torch.Tensor]:
    """Return rows of token ids as one batch, filled up with zeros, as a model's arguments.

    Args:
        rows: Token ids.
        side: Where the padding is.
        device: Where the batch is to be.

    Returns:
        ``input_ids``, ``attention_mask`` (1 for real tokens) and ``position_ids``, int64, each of
        shape (rows, longest row).
    """
    width = max(map(len, rows))
    tokens = torch.zeros((len(rows), width), dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        tokens[number, place] = torch.tensor(row, dtype=torch.int64)
        mask[number, place] = 1
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    batch = {"input_ids": tokens, "attention_mask": mask, "position_ids": places}
    return {name: values.to(device) for name, values in batch.items()}


def context_length(model: nn.Module) -> int | None:
    """Return how many tokens the model reads at most; ``None`` if its configuration is silent."""
    config = text_config(model)
    for name in _LIMITS:
        limit = getattr(config, name, None)
        if isinstance(limit, int):
            return limit
    return None


def _prefix_token(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError(
        "An empty statement has no token, and the tokenizer has neither a beginning- nor an "
        "end-of-sequence token to stand for it; drop empty statements."
    )

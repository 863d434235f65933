"""Texts as token ids, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import text_config

#: Names under which configurations declare the context length.
_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")


def encode(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], *, special: bool = True
) -> list[list[int]]:
    """Return the token ids of each text, with the tokenizer's own special tokens.

    A text without tokens (an empty statement, if the tokenizer adds no beginning-of-sequence token)
    is read as that one token, or as the end-of-sequence token if there is none: the prefix that
    the harness scores an empty context with.

    Args:
        model: Whose context bounds the length.
        tokenizer: Its tokenizer.
        texts: The texts.
        special: Whether the tokenizer adds its special tokens; a chat template has written them.

    Raises:
        InputError: A text is longer than the model's context; nothing is truncated.
    """
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), verbose=False, add_special_tokens=special)[
        "input_ids"
    ]
    limit = context_length(model)
    for index, tokens in enumerate(ids):
        if limit is not None and len(tokens) > limit:
            raise InputError(
                f"Statement {index} has {len(tokens)} tokens, the model reads at most {limit}; "
                f"shorten or drop it. It starts {texts[index][:60]!r}."
            )
    return [tokens or [_prefix_token(tokenizer)] for tokens in ids]


def context_length(model: nn.Module) -> int | None:
    """Return the model's context length in tokens; ``None`` if its configuration has none."""
    config = text_config(model)
    for name in _LIMITS:
        limit = getattr(config, name, None)
        if isinstance(limit, int):
            return limit
    return None


def padded_batch(
    rows: Sequence[Sequence[int]],
    *,
    side: Literal["left", "right"] = "left",
    device: torch.device | str = "cpu",
) -> dict[str, torch.Tensor]:
    """Return rows of token ids as the arguments of one forward pass.

    Positions count the real tokens from 0, so padding on the left does not shift them.

    Args:
        rows: Token ids; none of the rows is empty.
        side: Where shorter rows are padded.
        device: Device of the result.

    Returns:
        ``input_ids``, ``attention_mask`` and ``position_ids``, each int64 of shape (rows, width).
    """
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[index, start : start + len(row)] = torch.tensor(list(row))
        mask[index, start : start + len(row)] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    batch = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _prefix_token(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError(
        "An empty statement has no tokens, and the tokenizer has neither a beginning- nor an "
        "end-of-sequence token to use instead; drop empty statements."
    )

"""Rows of a model's embeddings for tokens that were added to its vocabulary."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

logger = logging.getLogger(__name__)

#: Modules whose rows stand for tokens, by the names that peft knows.
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")
#: Tokens that a warning names.
_NAMED = 5


def rows_of(file: Path) -> int | None:
    """Return the rows of the embedding that an adapter's file stores; ``None`` without one."""
    with safe_open(file, framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            parts = name.split(".")
            if parts[-1] == "weight" and parts[-2] in _EMBEDDINGS:
                return int(weights.get_slice(name).get_shape()[0])
    return None


def add_rows(model: Any, tokenizer: Any, stored: int | None, *, what: str) -> None:
    """Give a model rows for all tokens of a tokenizer, where it has too few.

    New rows are the mean of the others, so they are the same each time; those that an adapter
    stores replace them later.

    Args:
        model: A causal model of transformers, changed in place.
        tokenizer: Its tokenizer, with added tokens.
        stored: Rows of the embedding that the adapter stores; ``None`` without one.
        what: The adapter, for the warning.
    """
    before = model.get_input_embeddings().weight.shape[0]
    rows = max(len(tokenizer), before) if stored is None else stored
    if rows == before:
        return
    with torch.random.fork_rng():
        model.resize_token_embeddings(rows, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if layer is not None:
            _fill(layer, before)
    if stored is None:
        added = tokenizer.convert_ids_to_tokens(list(range(before, min(rows, before + _NAMED))))
        logger.warning(
            "%s adds %d tokens (%s%s) and brings no embeddings for them; each gets the mean of the "
            "others.",
            what,
            rows - before,
            ", ".join(map(repr, added)),
            ", …" if rows - before > _NAMED else "",
        )


@torch.no_grad()
def _fill(layer: nn.Module, before: int) -> None:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    weight[before:] = weight[:before].float().mean(dim=0).to(weight.dtype)
    bias = getattr(layer, "bias", None)
    if bias is not None:
        bias[before:] = bias[:before].float().mean().to(bias.dtype)

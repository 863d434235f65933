"""Find where a block's attention heads come together: the input of the output projection.

That input holds the heads' outputs side by side, one after the other, so a stretch of it is
one head's (Li et al. 2023, arXiv 2306.03341, eq. 2).
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import decoder_blocks, text_config

#: What families call the projection, below a block.
_NAMES = (
    "self_attn.o_proj",
    "self_attn.dense",
    "self_attn.out_proj",
    "self_attention.dense",
    "attention.dense",
    "attn.c_proj",
    "attn.out_proj",
    "attn.attention.out_proj",
)


def number_of_heads(model: nn.Module) -> int:
    """Return how many heads' outputs stand side by side in each block."""
    return int(text_config(model).num_attention_heads)


def output_projection(model: nn.Module, layer: int) -> nn.Module:
    """Return the linear layer that the heads' outputs of a block go through.

    Raises:
        InputError: The block's attention has none, or its input does not divide into the heads.
    """
    block = decoder_blocks(model)[layer]
    for name in _NAMES:
        try:
            found = block.get_submodule(name)
        except AttributeError:
            continue
        # PEFT wraps layers, and their input is the same.
        width = _input_width(getattr(found, "base_layer", found))
        if width and width % number_of_heads(model) == 0:
            return found
    config: Any = model.config
    raise InputError(
        f"The attention of {type(block).__name__} ({config.model_type}) has no plain output "
        f"projection that its heads come together in, so that heads cannot be steered or read; "
        f"steer the output of block {layer} with a vector that was built without --heads."
    )


def heads_width(model: nn.Module, layer: int) -> int:
    """Return the width of all heads' outputs side by side.

    Raises:
        InputError: See :func:`output_projection`.
    """
    projection = output_projection(model, layer)
    return _input_width(getattr(projection, "base_layer", projection))


def _input_width(module: nn.Module) -> int:
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0])
    return int(module.in_features) if isinstance(module, nn.Linear) else 0

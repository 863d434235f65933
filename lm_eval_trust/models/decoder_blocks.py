"""Find a model's decoder blocks: by module, never by the string of its name.

Wrappers such as PEFT rename modules (``model.model.layers.1``), so the blocks are recognised as
the one ``ModuleList`` of as many entries as the configuration has hidden layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from lm_eval_trust.core.errors import InputError


def number_of_blocks(model: nn.Module) -> int:
    """Return how many decoder blocks the model's configuration declares."""
    return int(text_config(model).num_hidden_layers)


def hidden_size(model: nn.Module) -> int:
    """Return the width of the residual stream."""
    return int(text_config(model).hidden_size)


def decoder_of(model: nn.Module) -> nn.Module:
    """Return the module that holds the blocks: the decoder without its language-model head.

    Raises:
        InputError: No module, or more than one, holds a list of as many blocks as configured.
    """
    expected = number_of_blocks(model)
    owners = [
        module
        for module in model.modules()
        for child in module.children()
        if isinstance(child, nn.ModuleList) and len(child) == expected
    ]
    if len(owners) != 1:
        raise InputError(
            f"Found {len(owners)} lists of {expected} decoder blocks in {type(model).__name__}, "
            f"expected one; decoder-only models such as Llama are supported."
        )
    return owners[0]


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the decoder blocks, first to last.

    Raises:
        InputError: As :func:`decoder_of`.
    """
    expected = number_of_blocks(model)
    (blocks,) = (
        child
        for child in decoder_of(model).children()
        if isinstance(child, nn.ModuleList) and len(child) == expected
    )
    return list(blocks)


def check_layers(layers: Iterable[int], blocks: int, *, model: str = "the model") -> list[int]:
    """Return the layers as a list if each is the 0-based index of a block.

    Raises:
        InputError: A layer is out of range, repeated, or none is given.
    """
    checked = list(layers)
    if not checked:
        raise InputError("No layers were given; expected 0-based indices of decoder blocks.")
    outside = [layer for layer in checked if not 0 <= layer < blocks]
    if outside:
        raise InputError(
            f"Layer {', '.join(map(str, outside))} is out of range: {model} has {blocks} decoder "
            f"blocks, numbered 0 to {blocks - 1}."
        )
    if len(set(checked)) != len(checked):
        raise InputError(f"Layers {checked} repeat a block; name each once.")
    return checked


def text_config(model: nn.Module) -> Any:
    """Return the configuration of the language part, for models that have others beside it."""
    config: Any = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config

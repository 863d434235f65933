"""Find a model's decoder blocks: by module, never by the string of its name.

Wrappers such as PEFT rename modules (``model.model.layers.1``), so the blocks are recognised as
the one ``ModuleList`` of as many entries as the configuration has hidden layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.layers import parts_of


def number_of_blocks(model: nn.Module) -> int:
    """Return how many decoder blocks the model's configuration declares."""
    return int(text_config(model).num_hidden_layers)


def hidden_size(model: nn.Module) -> int:
    """Return the width of the residual stream."""
    return int(text_config(model).hidden_size)


def decoder_of(model: Any) -> nn.Module:
    """Return the module that holds the blocks: the decoder without its language-model head.

    Raises:
        InputError: No module, or more than one, holds a list of as many blocks as configured.
    """
    expected = number_of_blocks(model)
    owners = [module for module in language_part(model).modules() if _lists_of(module, expected)]
    # Experts within the blocks may be as many as the blocks.
    inner = {id(part) for owner in owners for part in owner.modules() if part is not owner}
    owners = [owner for owner in owners if id(owner) not in inner]
    if len(owners) != 1 or len(_lists_of(owners[0], expected)) != 1:
        raise InputError(
            f"{type(model).__name__} ({model.config.model_type}) has no single list of {expected} "
            f"decoder blocks, as its configuration declares; it can be evaluated unsteered, and "
            f"decoder-only models such as Llama can be steered."
        )
    return owners[0]


def _lists_of(module: nn.Module, length: int) -> list[nn.ModuleList]:
    return [c for c in module.children() if isinstance(c, nn.ModuleList) and len(c) == length]


def language_part(model: Any) -> nn.Module:
    """Return the language model of a multimodal one, which also has blocks for images."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    multimodal = text_config(plain) is not plain.config
    part: nn.Module = plain.get_decoder() if multimodal else model
    return part


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the decoder blocks, first to last.

    Raises:
        InputError: As :func:`decoder_of`.
    """
    (blocks,) = _lists_of(decoder_of(model), number_of_blocks(model))
    return list(blocks)


def skipped_blocks(config: Any) -> frozenset[int]:
    """Return the 0-based blocks that text does not run through: Mllama's, which attend to images.

    Args:
        config: The configuration of a model, or of its language part.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    named = str(getattr(text, "model_type", "")).startswith("mllama")
    return frozenset(text.cross_attention_layers if named else ())


def text_blocks(model: nn.Module) -> list[int]:
    """Return the 0-based blocks that text runs through, which can be read and steered."""
    skipped = skipped_blocks(model.config)
    return [layer for layer in range(number_of_blocks(model)) if layer not in skipped]


def check_layers(
    layers: Iterable[int],
    blocks: int,
    *,
    model: str = "the model",
    skipped: frozenset[int] = frozenset(),
) -> list[int]:
    """Return the layers as a list if each is the 0-based index of a block.

    Args:
        layers: The layers.
        blocks: How many blocks the model has.
        model: Its name, for messages.
        skipped: Those of its blocks that text does not run through.

    Raises:
        InputError: A layer is out of range, skipped, repeated, or none is given.
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
    if unread := skipped.intersection(checked):
        others = parts_of(layer for layer in range(blocks) if layer not in skipped)
        raise InputError(
            f"Layer {', '.join(map(str, sorted(unread)))} of {model} attends to images, and text "
            f"does not run through it; the layers {others} can be read and steered."
        )
    if len(set(checked)) != len(checked):
        raise InputError(f"Layers {checked} repeat a block; name each once.")
    return checked


def checked_layers(model: nn.Module, layers: Iterable[int]) -> list[int]:
    """Return the layers as a list if text can be read at each of them in a model.

    Raises:
        InputError: As :func:`check_layers`.
    """
    return check_layers(
        layers,
        number_of_blocks(model),
        model=type(model).__name__,
        skipped=skipped_blocks(model.config),
    )


def text_config(model: nn.Module) -> Any:
    """Return the configuration of the language part, for models that have others as well."""
    config: Any = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config

"""Where the weights of a model hold a constant that is added to a block's output.

A block adds the output of its last linear layer to the residual stream, so a bias of that layer
is added to the block's output at every token. Architectures differ in where it is, and in
whether it is there at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import decoder_blocks


@dataclass(frozen=True)
class OutputBias:
    """The last linear layer of a block.

    Attributes:
        module: Its name below the block; all before the last dot is the feed-forward part.
        switch: Setting of the configuration that gives every linear layer of the feed-forward
            part a bias; ``None`` where they always have one.
    """

    module: str
    switch: str | None = None


_LLAMA = OutputBias("mlp.down_proj", switch="mlp_bias")

#: Model type → where its blocks' outputs can be shifted. Only those that a test compares with the
#: hooked model stand here: elsewhere a norm or a multiplier may follow the layer.
OUTPUT_BIASES: Mapping[str, OutputBias] = {
    "gpt2": OutputBias("mlp.c_proj"),
    "gpt_neox": OutputBias("mlp.dense_4h_to_h"),
    "llama": _LLAMA,
    "phi": OutputBias("mlp.fc2"),
    "smollm3": _LLAMA,
}


def output_bias_of(config: Any, *, model: str) -> OutputBias:
    """Return where a model's blocks keep the bias of their output.

    Args:
        config: The model's configuration.
        model: How messages call it.

    Raises:
        InputError: Its architecture has no such bias, or none that is known.
    """
    kind = str(config.model_type)
    if kind not in OUTPUT_BIASES:
        raise InputError(
            f"{model} is a {kind}, whose blocks have no bias that a vector can be baked into, or "
            f"none that was verified; known are {', '.join(OUTPUT_BIASES)}. Steer it with "
            f"steered_amber, or in llama.cpp with `lm-eval-trust vector export --format gguf`."
        )
    return OUTPUT_BIASES[kind]


def shift_outputs(model: Any, shifts: Mapping[int, torch.Tensor], *, name: str) -> None:
    """Add a constant to the outputs of some blocks, in the model's weights.

    Biases that the model has already are kept and added to; those that the architecture's switch
    brings along are zero.

    Args:
        model: Model of transformers, changed in place, with its configuration.
        shifts: 0-based block → what is added to its output, shape (hidden,).
        name: How messages call it.

    Raises:
        InputError: See :func:`output_bias_of`.
    """
    place = output_bias_of(model.config, model=name)
    blocks = decoder_blocks(model)
    if place.switch and not getattr(model.config, place.switch):
        part = place.module.rpartition(".")[0]
        for block in blocks:
            _add_zero_biases(block.get_submodule(part))
        setattr(model.config, place.switch, True)
    with torch.no_grad():
        for layer, shift in shifts.items():
            bias = blocks[layer].get_submodule(place.module).bias
            assert isinstance(bias, nn.Parameter)
            bias.add_(shift.to(bias))


def _add_zero_biases(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.Linear):
            zeros = module.weight.new_zeros(module.out_features)
            module.bias = nn.Parameter(zeros, requires_grad=module.weight.requires_grad)

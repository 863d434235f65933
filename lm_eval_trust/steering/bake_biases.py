"""Biases that a steering is baked into: where each family has them, and how they are shifted.

Adding α v to a block's output is what a bias of its last linear layer does, and adding to its
attention heads what a bias of the attention's output projection does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import decoder_blocks
from lm_eval_trust.steering.bake_llama import LLAMA_LIKE, check_llama_like


@dataclass(frozen=True)
class OutputBias:
    """The last linear layer of a block.

    Attributes:
        module: Its name below the block; all before the last dot is the feed-forward part.
        switch: Setting of the configuration that gives every linear layer of the feed-forward
            part a bias; ``None`` where they always have one.
        multiplier: Setting of the configuration that the layer's output is multiplied by.
    """

    module: str
    switch: str | None = None
    multiplier: str | None = None


_LLAMA = OutputBias("mlp.down_proj", switch="mlp_bias")

#: Model type → where its blocks' outputs can be shifted. Only those that a test compares with the
#: hooked model stand here: elsewhere a norm or a multiplier may follow the layer. Those of
#: :data:`lm_eval_trust.steering.bake_llama.LLAMA_LIKE` are written as a Llama first.
OUTPUT_BIASES: Mapping[str, OutputBias] = {
    "arcee": _LLAMA,
    "bloom": OutputBias("mlp.dense_4h_to_h"),
    "gpt2": OutputBias("mlp.c_proj"),
    "gpt_bigcode": OutputBias("mlp.c_proj"),
    "gpt_neo": OutputBias("mlp.c_proj"),
    "gptj": OutputBias("mlp.fc_out"),
    "granite": replace(_LLAMA, multiplier="residual_multiplier"),
    "gpt_neox": OutputBias("mlp.dense_4h_to_h"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "phi": OutputBias("mlp.fc2"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "seed_oss": _LLAMA,
    "smollm3": _LLAMA,
}

_LLAMA_ATTENTION = OutputBias("self_attn.o_proj", switch="attention_bias")

#: Model type → where the attention's output can be shifted, likewise.
ATTENTION_BIASES: Mapping[str, OutputBias] = {
    **dict.fromkeys(("arcee", "granite", "llama", "mistral", "phi3"), _LLAMA_ATTENTION),
    **dict.fromkeys(("qwen2", "smollm3"), _LLAMA_ATTENTION),
    "bloom": OutputBias("self_attention.dense"),
    "gpt2": OutputBias("attn.c_proj"),
    "gpt_bigcode": OutputBias("attn.c_proj"),
    "gpt_neo": OutputBias("attn.attention.out_proj"),
    "gpt_neox": OutputBias("attention.dense"),
    "phi": OutputBias("self_attn.dense"),
}
_GGUF = ", or in llama.cpp with `lm-eval-trust vector export --format gguf`"


def output_bias_of(config: Any, *, model: str, site: str = "block") -> OutputBias:
    """Return where a model's blocks keep the bias of their output, or of their attention's.

    Args:
        config: The model's configuration.
        model: How messages call it.
        site: ``block`` or ``heads``.

    Raises:
        InputError: Its architecture has no such bias, or none that is known.
    """
    kind = str(config.model_type)
    places = OUTPUT_BIASES if site == "block" else ATTENTION_BIASES
    if kind not in places:
        part, instead = ("blocks", _GGUF) if site == "block" else ("attention layers", "")
        raise InputError(
            f"{model} is a {kind}, whose {part} have no bias that a vector can be baked into, or "
            f"none that was verified; known are {', '.join(places)}. Steer it with "
            f"steered_amber{instead}."
        )
    if kind in LLAMA_LIKE:
        check_llama_like(config, model=model)
    return places[kind]


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
    if not shifts:
        return
    place = output_bias_of(model.config, model=name)
    blocks = decoder_blocks(model)
    _switch_on(model, blocks, place)
    factor = float(getattr(model.config, place.multiplier)) if place.multiplier else 1.0
    with torch.no_grad():
        for layer, shift in shifts.items():
            bias = blocks[layer].get_submodule(place.module).bias
            assert isinstance(bias, nn.Parameter)
            bias.add_(shift.to(bias) / factor)


def shift_heads(model: Any, shifts: Mapping[int, torch.Tensor], *, name: str) -> None:
    """Add what heads are steered by, projected, to the bias of some blocks' attention.

    Args:
        model: See :func:`shift_outputs`.
        shifts: 0-based block → what is added to its heads' outputs, shape (heads' width,).
        name: See :func:`shift_outputs`.

    Raises:
        InputError: See :func:`output_bias_of`.
    """
    if not shifts:
        return
    place = output_bias_of(model.config, model=name, site="heads")
    blocks = decoder_blocks(model)
    _switch_on(model, blocks, place)
    with torch.no_grad():
        for layer, shift in shifts.items():
            projection = blocks[layer].get_submodule(place.module)
            bias = projection.bias
            assert isinstance(bias, nn.Parameter)
            given = shift.to(bias)
            bias.add_(projection(given) - projection(torch.zeros_like(given)))


def _switch_on(model: Any, blocks: Sequence[nn.Module], place: OutputBias) -> None:
    """Give a part of every block the biases that its configuration allows, if it has none."""
    if place.switch and not getattr(model.config, place.switch):
        part = place.module.rpartition(".")[0]
        for block in blocks:
            _add_zero_biases(block.get_submodule(part))
        setattr(model.config, place.switch, True)


def _add_zero_biases(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.Linear):
            zeros = module.weight.new_zeros(module.out_features)
            module.bias = nn.Parameter(zeros, requires_grad=module.weight.requires_grad)

"""Write a model as the Llama that it is except for its biases or the layout of its weights.

A Llama's configuration can give its attention (``attention_bias``) and its feed-forward part
(``mlp_bias``) biases, which is where a steering goes. Families whose code has no place for it are
written as one, where their blocks compute the same; the bake then verifies the written model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError

State = dict[str, torch.Tensor]
#: Settings that mean the same in all of these families.
_SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "attention_dropout",
)


def _split_fused(config: Any, state: State) -> State:
    """Return Phi-3's weights with queries, keys and values, gate and up apart."""
    width = config.hidden_size // config.num_attention_heads
    keys = config.num_key_value_heads * width
    split: State = {}
    for name, tensor in state.items():
        if name.endswith("qkv_proj.weight"):
            parts = torch.split(tensor, [config.num_attention_heads * width, keys, keys])
            for own, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                split[name.replace("qkv_proj", own)] = part
        elif name.endswith("gate_up_proj.weight"):
            for own, part in zip(("gate_proj", "up_proj"), tensor.chunk(2), strict=True):
                split[name.replace("gate_up_proj", own)] = part
        else:
            split[name] = tensor
    return split


def _with_zero_output_bias(config: Any, state: State) -> State:
    """Return Qwen2's weights with the bias that a Llama's attention has after it, too."""
    outputs = [name for name in state if name.endswith("o_proj.weight")]
    return state | {
        name.replace("weight", "bias"): state[name].new_zeros(config.hidden_size)
        for name in outputs
    }


#: Model type → its weights by a Llama's names.
LLAMA_LIKE: Mapping[str, Callable[[Any, State], State]] = {
    "mistral": lambda config, state: state,
    "phi3": _split_fused,
    "qwen2": _with_zero_output_bias,
}


def check_llama_like(config: Any, *, model: str) -> None:
    """Refuse a configuration of these families that no Llama has.

    Args:
        config: Its model type is one of :data:`LLAMA_LIKE`.
        model: How messages call it.

    Raises:
        InputError: It has sliding windows, or turns only a part of each head by position.
    """
    kinds = getattr(config, "layer_types", None) or ()
    rope = getattr(config, "rope_parameters", None) or {}
    reason = ""
    if getattr(config, "sliding_window", None) or any(kind != "full_attention" for kind in kinds):
        reason = "attends within a sliding window"
    elif rope.get("partial_rotary_factor", 1.0) != 1.0:
        reason = "turns only a part of each attention head by position"
    if reason:
        raise InputError(
            f"{model} is a {config.model_type} that {reason}, which no Llama does, so that it has "
            f"no bias that a vector can be baked into. Steer it with steered_amber, or in "
            f"llama.cpp with `lm-eval-trust vector export --format gguf`."
        )


def as_llama(model: Any) -> Any:
    """Return a model of :data:`LLAMA_LIKE` as a Llama with the same weights, to be saved.

    Its buffers hold nothing: they are computed again when it is loaded.

    Args:
        model: A model that :func:`check_llama_like` lets pass.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    settings = {name: getattr(config, name) for name in _SHARED}
    head = getattr(config, "head_dim", None)
    biased = config.model_type == "qwen2"
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**settings, head_dim=head, attention_bias=biased))
    state = LLAMA_LIKE[config.model_type](config, dict(model.state_dict()))
    llama.load_state_dict(state, assign=True)
    llama.tie_weights()
    llama.generation_config = model.generation_config
    return llama.eval()

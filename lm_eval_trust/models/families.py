"""Families of models: which ones the tests know, and by which class a family is loaded."""

from __future__ import annotations

from typing import Any

from lm_eval_trust.core.errors import InputError

#: Model types that ``tests/conformance/test_families.py`` holds against an independent loop in
#: every use. Another one is measured when it is first used, see
#: :mod:`lm_eval_trust.models.reading`.
TESTED = frozenset(
    [
        "arcee",
        "bamba",
        "bloom",
        "cohere",
        "cohere2",
        "deepseek_v3",
        "ernie4_5",
        "exaone4",
        "falcon",
        "falcon_h1",
        "falcon_mamba",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gpt_oss",
        "gptj",
        "granite",
        "granitemoehybrid",
        "idefics3",
        "jamba",
        "lfm2",
        "llama",
        "llama4_text",
        "llava",
        "mamba",
        "mamba2",
        "minimax",
        "ministral",
        "mistral",
        "mistral3",
        "mixtral",
        "mllama",
        "mpt",
        "nemotron",
        "nemotron_h",
        "olmo",
        "olmo2",
        "olmo3",
        "olmo_hybrid",
        "olmoe",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_5_vl",
        "qwen2_moe",
        "qwen2_vl",
        "qwen3",
        "qwen3_moe",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
        "zamba2",
    ]
)


def model_class(config: Any) -> Any:
    """Return the class of transformers that loads a language model of this configuration.

    That of causal models, or that of multimodal ones, whose text alone is read.

    Args:
        config: The model's configuration.

    Raises:
        InputError: It is neither.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from lm_eval_trust.models.transformers_internals import loads

    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if loads(kind, config):
            return kind
    raise InputError(
        f"A {config.model_type} is no language model that reads from left to right; expected a "
        f"decoder-only one such as Llama, or a multimodal one around it."
    )

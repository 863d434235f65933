"""Tiny random models of many families, and what an independent loop makes of them.

The reference reads one prompt at a time, without a cache, and shifts a block that is named here by
hand: it shares neither batching, caches nor the search for blocks with the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import transformers

from support.models import build_tokenizer

VOCABULARY = 259
WIDTH = 32
_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
#: Of families whose configurations use Llama's names.
_LLAMA = _TOKENS | {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_HEAD = {"head_dim": 8}
_WINDOW = {"sliding_window": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_PLAIN = _TOKENS | {"hidden_size": WIDTH, "num_hidden_layers": 4, "state_size": 8}
_MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
_LLAMA4 = _HEAD | {
    "num_local_experts": 4,
    "intermediate_size_mlp": 64,
    "attention_chunk_size": 8,
    "interleave_moe_layer_step": 2,
}
_GPT2 = _TOKENS | {
    "n_embd": WIDTH,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 512,
    "initializer_range": 0.2,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    # As many as the language model has, so that the two lists of blocks have to be told apart.
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of a family.

    Attributes:
        config: Name of its configuration class.
        settings: Arguments of the configuration.
        blocks: Where its decoder blocks are.
        model: Name of its class, where transformers would take another one for it.
        text: For multimodal models, the name and the settings of the language part.
        vision: For multimodal models, the name and the settings of the vision part.
    """

    config: str
    settings: dict[str, Any] = field(default_factory=lambda: dict(_LLAMA))
    blocks: str = "model.layers"
    model: str = ""
    text: tuple[str, dict[str, Any]] | None = None
    vision: tuple[str, dict[str, Any]] | None = None

    def build(self) -> Any:
        """Return the model, with random biases and norms."""
        torch.manual_seed(0)
        settings = dict(self.settings)
        for part, of_part in (("text_config", self.text), ("vision_config", self.vision)):
            if of_part is not None:
                settings[part] = getattr(transformers, of_part[0])(**of_part[1])
        config = getattr(transformers, self.config)(**settings)
        if self.model:
            model = getattr(transformers, self.model)(config)
        elif type(config) in transformers.AutoModelForCausalLM._model_mapping:
            model = transformers.AutoModelForCausalLM.from_config(config)
        else:
            model = transformers.AutoModelForImageTextToText.from_config(config)
        model = model.float().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
                elif "norm" in name and parameter.dim() == 1:
                    parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
                elif parameter.dim() == 2 and float(parameter.std()) < 0.1:
                    parameter.normal_(std=0.2)
        return model


def _llama(config: str, blocks: str = "model.layers", **settings: Any) -> Family:
    return Family(config, _LLAMA | settings, blocks)


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _multimodal(
    config: str,
    text: str,
    vision: str,
    of_vision: dict[str, Any],
    of_text: dict[str, Any],
    **more: Any,
) -> Family:
    return Family(
        config,
        {
            "image_token_id": 258,
            "tie_word_embeddings": False,
            **_without(_TOKENS, "vocab_size"),
            **more,
        },
        "model.language_model.layers",
        "",
        (text, _LLAMA | of_text),
        (vision, of_vision),
    )


_ROPE_3D = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
}

FAMILIES: dict[str, Family] = {
    "llama": _llama("LlamaConfig"),
    "mistral": _llama("MistralConfig", sliding_window=None),
    "mistral, sliding window": _llama("MistralConfig", **_WINDOW),
    "ministral": _llama("MinistralConfig", **_HEAD, **_WINDOW),
    "mixtral": _llama("MixtralConfig", num_local_experts=4, num_experts_per_tok=2),
    "qwen2": _llama("Qwen2Config"),
    "qwen2_moe": _llama("Qwen2MoeConfig", **_EXPERTS, shared_expert_intermediate_size=32),
    "qwen3": _llama("Qwen3Config", **_HEAD),
    "qwen3_moe": _llama("Qwen3MoeConfig", **_HEAD, **_EXPERTS),
    "gemma": _llama("GemmaConfig", **_HEAD),
    "gemma2": _llama("Gemma2Config", **_HEAD, **_WINDOW),
    "gemma3_text": _llama("Gemma3TextConfig", **_HEAD, **_WINDOW),
    "gpt2": Family("GPT2Config", _GPT2, "transformer.h"),
    "gpt_bigcode": Family("GPTBigCodeConfig", _GPT2, "transformer.h"),
    "gptj": Family("GPTJConfig", _GPT2 | {"rotary_dim": 4}, "transformer.h"),
    "gpt_neo": Family(
        "GPTNeoConfig",
        _without(_LLAMA, "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        | {
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 8,
        },
        "transformer.h",
    ),
    "gpt_neox": Family(
        "GPTNeoXConfig",
        _without(_LLAMA, "num_key_value_heads") | {"rotary_pct": 0.5},
        "gpt_neox.layers",
    ),
    "olmo": _llama("OlmoConfig"),
    "olmo2": _llama("Olmo2Config"),
    "olmo3": _llama("Olmo3Config", **_WINDOW),
    "olmoe": _llama("OlmoeConfig", num_experts=4, num_experts_per_tok=2),
    "phi": _llama("PhiConfig"),
    "phi3": _llama("Phi3Config"),
    "opt": Family(
        "OPTConfig",
        _without(_LLAMA, "intermediate_size", "num_key_value_heads", "initializer_range")
        | {"ffn_dim": 64, "word_embed_proj_dim": WIDTH, "init_std": 0.2},
        "model.decoder.layers",
    ),
    "bloom": Family(
        "BloomConfig",
        _TOKENS | {"hidden_size": WIDTH, "n_layer": 4, "n_head": 4, "initializer_range": 0.2},
        "transformer.h",
    ),
    "mpt": Family(
        "MptConfig",
        _TOKENS
        | {
            "d_model": WIDTH,
            "n_layers": 4,
            "n_heads": 4,
            "max_seq_len": 512,
            "initializer_range": 0.2,
        },
        "transformer.blocks",
    ),
    "falcon": Family("FalconConfig", _LLAMA, "transformer.h"),
    "gpt_oss": _llama(
        "GptOssConfig", **_HEAD, **_WINDOW, num_local_experts=4, num_experts_per_tok=2
    ),
    "smollm3": _llama("SmolLM3Config"),
    "granite": _llama(
        "GraniteConfig",
        embedding_multiplier=2.0,
        residual_multiplier=0.5,
        attention_multiplier=0.3,
        logits_scaling=1.5,
    ),
    "cohere": _llama("CohereConfig"),
    "cohere2": _llama("Cohere2Config", **_HEAD, **_WINDOW),
    "stablelm": _llama("StableLmConfig"),
    "starcoder2": _llama("Starcoder2Config"),
    "glm4": _llama("Glm4Config", **_HEAD),
    "deepseek_v3": _llama(
        "DeepseekV3Config",
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        n_group=2,
        topk_group=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        first_k_dense_replace=1,
        n_shared_experts=1,
    ),
    "llama4_text": _llama("Llama4TextConfig", **_LLAMA4),
    "exaone4": _llama("Exaone4Config", **_HEAD, **_WINDOW, sliding_window_pattern=2),
    "seed_oss": _llama("SeedOssConfig", **_HEAD),
    "nemotron": _llama("NemotronConfig"),
    "arcee": _llama("ArceeConfig"),
    "ernie4_5": _llama("Ernie4_5Config", **_HEAD),
    "mamba": Family("MambaConfig", _PLAIN, "backbone.layers"),
    "mamba2": Family(
        "Mamba2Config",
        _PLAIN | {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
        "backbone.layers",
    ),
    "falcon_mamba": Family("FalconMambaConfig", _PLAIN, "backbone.layers"),
    "rwkv": Family(
        "RwkvConfig",
        _without(_PLAIN, "state_size") | {"attention_hidden_size": WIDTH},
        "rwkv.blocks",
    ),
    "jamba": _llama(
        "JambaConfig",
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=4,
        mamba_d_state=8,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "bamba": _llama("BambaConfig", **_MAMBA2, attn_layer_indices=[1, 3]),
    "falcon_h1": _llama("FalconH1Config", **_HEAD, **_MAMBA2, mamba_d_ssm=64),
    "zamba2": _llama(
        "Zamba2Config",
        mamba_d_state=8,
        n_mamba_heads=8,
        mamba_headdim=8,
        mamba_ngroups=1,
        chunk_size=8,
        layers_block_type=["mamba", "hybrid"] * 2,
        num_mem_blocks=1,
    ),
    "granitemoehybrid": _llama(
        "GraniteMoeHybridConfig",
        **_MAMBA2,
        layer_types=["mamba", "attention"] * 2,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
        position_embedding_type="rope",
    ),
    "qwen3_next": _llama(
        "Qwen3NextConfig", **_HEAD, **_LINEAR, **_EXPERTS, shared_expert_intermediate_size=32
    ),
    "nemotron_h": _llama(
        "NemotronHConfig",
        **_HEAD,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=1,
        ssm_state_size=8,
        chunk_size=8,
        hybrid_override_pattern="M*M-",
    ),
    "recurrent_gemma": _llama(
        "RecurrentGemmaConfig",
        lru_width=WIDTH,
        attention_window_size=8,
        block_types=["recurrent", "attention"],
    ),
    "lfm2": _llama(
        "Lfm2Config", layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False
    ),
    "minimax": _llama(
        "MiniMaxConfig",
        **_HEAD,
        num_local_experts=4,
        num_experts_per_tok=2,
        block_size=8,
        layer_types=["linear_attention", "full_attention"] * 2,
    ),
    "olmo_hybrid": _llama("OlmoHybridConfig", **_LINEAR),
    "gemma3": _multimodal(
        "Gemma3Config",
        "Gemma3TextConfig",
        "SiglipVisionConfig",
        _VISION,
        {**_HEAD, **_WINDOW},
        mm_tokens_per_image=4,
    ),
    "mistral3": _multimodal(
        "Mistral3Config",
        "MistralConfig",
        "PixtralVisionConfig",
        _VISION | {"head_dim": 8},
        {"sliding_window": None},
        image_token_index=258,
    ),
    "llava": _multimodal(
        "LlavaConfig", "LlamaConfig", "CLIPVisionConfig", _VISION, {}, image_token_index=258
    ),
    "paligemma": _multimodal(
        "PaliGemmaConfig",
        "GemmaConfig",
        "SiglipVisionConfig",
        _VISION,
        _HEAD,
        projection_dim=WIDTH,
        image_token_index=258,
    ),
    "qwen2_vl": _multimodal(
        "Qwen2VLConfig",
        "Qwen2VLTextConfig",
        "Qwen2VLVisionConfig",
        {"depth": 4, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "patch_size": 14},
        _ROPE_3D,
        vision_start_token_id=256,
        video_token_id=257,
    ),
    "qwen2_5_vl": _multimodal(
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLTextConfig",
        "Qwen2_5_VLVisionConfig",
        {
            "depth": 4,
            "hidden_size": 16,
            "intermediate_size": 32,
            "out_hidden_size": WIDTH,
            "num_heads": 2,
        },
        _ROPE_3D,
        vision_start_token_id=256,
        video_token_id=257,
    ),
    "idefics3": Family(
        "Idefics3Config",
        {"image_token_id": 258, "scale_factor": 1, **_without(_TOKENS, "vocab_size")},
        "model.text_model.layers",
        "",
        ("LlamaConfig", _LLAMA),
        ("Idefics3VisionConfig", _VISION),
    ),
    "mllama": Family(
        "MllamaConfig",
        {"image_token_index": 258, **_without(_TOKENS, "vocab_size")},
        "model.language_model.layers",
        "MllamaForConditionalGeneration",
        ("MllamaTextConfig", _LLAMA | {"cross_attention_layers": [3]}),
        (
            "MllamaVisionConfig",
            _VISION
            | {
                "num_global_layers": 2,
                "attention_heads": 2,
                "vision_output_dim": 32,
                "intermediate_layers_indices": [0],
                "max_num_tiles": 4,
                "supported_aspect_ratios": [[1, 1]],
            },
        ),
    ),
}


def save_family(name: str, folder: Path) -> Path:
    """Write the model of a family with the byte-level tokenizer."""
    FAMILIES[name].build().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


class Loop:
    """The independent loop: one prompt, no cache, a raw hook.

    Args:
        folder: Of a saved model.
        blocks: Where its decoder blocks are.
    """

    def __init__(self, folder: Path, blocks: str) -> None:
        config = transformers.AutoConfig.from_pretrained(folder)
        kind = getattr(transformers, config.architectures[0])
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        self.blocks = attrgetter(blocks)(self.model)

    @contextmanager
    def shifted(self, layer: int, shift: torch.Tensor, start: int) -> Iterator[None]:
        """Add a vector to a block's output from a position on."""

        def hook(module: Any, args: Any, output: Any) -> Any:
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, start:] += shift
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = self.blocks[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def logits(self, tokens: Sequence[int], *, cache: bool = False) -> torch.Tensor:
        """Return float32 (positions, vocabulary)."""
        return self.model(input_ids=torch.tensor([list(tokens)]), use_cache=cache).logits[0].float()

    def greedy(self, tokens: Sequence[int], new: int) -> tuple[list[int], float]:
        """Return the likeliest tokens one after the other, and their log-probability."""
        found, total = [], 0.0
        for _ in range(new):
            scores = self.logits([*tokens, *found])[-1].log_softmax(-1)
            found.append(int(scores.argmax()))
            total += float(scores[found[-1]])
            if found[-1] == _TOKENS["eos_token_id"]:
                break
        return found, total

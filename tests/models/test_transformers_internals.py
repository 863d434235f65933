"""What is used of transformers beside its public interface is still there.

A failure here means that a release of transformers has moved something:
``models/transformers_internals.py`` is the one place to change.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
import torch
from support.families import FAMILIES
from support.models import build_llama
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    LlamaConfig,
    LlavaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    T5Config,
)
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.families import model_class
from lm_eval_trust.models.transformers_internals import (
    CACHE,
    JoinedCache,
    LentModel,
    PreallocatedLayer,
    StageCache,
    keeps_state,
    keys_seen,
    loads,
    padding_token,
    replaced_forwards,
)

MOVED = f"transformers {version('transformers')} has moved this; see models/transformers_internals"


def test_generation_prepares_its_cache_in_the_method_that_is_overridden() -> None:
    method = getattr(GenerationMixin, "_prepare_cache_for_generation", None)
    assert method is not None, MOVED
    first = list(inspect.signature(method).parameters)[:3]
    assert first == ["self", "generation_config", "model_kwargs"], MOVED


def test_a_cache_is_made_of_layers() -> None:
    assert "layers" in inspect.signature(Cache.__init__).parameters, MOVED


@torch.no_grad()
def test_a_forward_pass_returns_the_cache_under_the_name_that_it_takes() -> None:
    model, tokens = build_llama(), torch.tensor([[5, 6, 7]])
    first = model(input_ids=tokens[:, :2], use_cache=True)
    assert isinstance(first[CACHE], Cache), MOVED
    second = model(input_ids=tokens[:, 2:], use_cache=True, **{CACHE: first[CACHE]})
    whole = model(input_ids=tokens).logits
    # A cache that is ignored in silence would give the third token no context.
    assert torch.allclose(second.logits[:, -1], whole[:, -1], atol=1e-5), MOVED


def test_another_cache_is_no_joined_one() -> None:
    cache = DynamicCache()
    with pytest.raises(InputError, match="got a DynamicCache"):
        JoinedCache.require(cache)
    joined = JoinedCache([cache, cache])
    assert JoinedCache.require(joined) is joined


def test_a_layer_of_a_cache_has_what_the_preallocated_one_uses() -> None:
    for name in ("lazy_initialization", "update", "batch_select_indices", "get_seq_length"):
        assert callable(getattr(DynamicLayer, name, None)), f"{MOVED}: DynamicLayer.{name}"
    assert hasattr(DynamicCache(), "layer_class_to_replicate"), MOVED
    assert hasattr(DynamicLayer(), "is_initialized"), MOVED


@torch.no_grad()
def test_the_cache_of_a_stage_is_used_and_keeps_rows() -> None:
    model, tokens = build_llama(), torch.arange(5, 50).reshape(3, 15)
    cache = StageCache(0)
    model(input_ids=tokens[:, :6], use_cache=True, **{CACHE: cache})
    assert isinstance(cache.layers[0], PreallocatedLayer), MOVED
    cache.select(torch.tensor([2, 0]))
    found = model(input_ids=tokens[[2, 0], 6:], use_cache=True, **{CACHE: cache}).logits
    assert cache.get_seq_length() == tokens.shape[1], MOVED
    torch.testing.assert_close(found, model(input_ids=tokens[[2, 0]]).logits[:, 6:])


def test_generation_hands_its_padding_token_to_decoding() -> None:
    found: list[torch.Tensor | None] = []

    def decode(model: Any, input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        config = settings["generation_config"]
        assert hasattr(config, "_pad_token_tensor"), MOVED
        found.append(padding_token(config))
        return input_ids

    tokens = torch.tensor([[5, 6]])
    build_llama().generate(tokens, custom_generate=decode, pad_token_id=7, max_new_tokens=1)
    assert [int(token) for token in found if token is not None] == [7], MOVED


def test_what_a_lent_model_answers_for_is_still_asked() -> None:
    for name in (
        "_supports_sdpa",
        "_supports_flash_attn",
        "_supports_flex_attn",
        "_supports_attention_backend",
        "_can_set_experts_implementation",
    ):
        assert hasattr(PreTrainedModel, name), f"{MOVED}: PreTrainedModel.{name}"
    reader = build_llama()
    lent = LentModel(reader)
    assert not list(lent.parameters()) and lent.dtype == reader.dtype
    assert lent.can_generate(), MOVED


def test_recurrent_models_say_that_they_keep_a_state() -> None:
    assert MambaForCausalLM._is_stateful, MOVED
    assert not keeps_state(build_llama())


def test_automatic_classes_tell_what_they_load() -> None:
    llama, llava, t5 = LlamaConfig(), LlavaConfig(), T5Config()
    assert loads(AutoModelForCausalLM, llama) and not loads(AutoModelForCausalLM, llava), MOVED
    assert loads(AutoModelForImageTextToText, llava), MOVED
    with pytest.raises(InputError, match="A t5 is no language model that reads from left to right"):
        model_class(t5)
    t5.auto_map = {"AutoModelForCausalLM": "modeling.Own"}
    assert model_class(t5) is AutoModelForCausalLM


@torch.no_grad()
def test_a_cache_whose_first_block_keeps_no_keys_still_tells_its_length() -> None:
    model = FAMILIES["minimax"].build()
    cache = model(input_ids=torch.arange(5, 16)[None], use_cache=True)[CACHE]
    assert keys_seen(cache) == 11, MOVED
    assert keys_seen(DynamicCache()) == 0


@torch.no_grad()
def test_replaced_blocks_are_called_with_their_hooks_and_put_back() -> None:
    model, tokens, hooked = build_llama(), torch.tensor([[5, 6, 7]]), []
    before = model(input_ids=tokens).logits
    first, second = model.model.layers[0], model.model.layers[1]
    own = second.forward
    second.forward = own
    first.register_forward_hook(lambda module, args, output: hooked.append(output.clone()))

    def passing(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states

    replaced: dict[nn.Module, Any] = {first: passing, second: passing}
    with replaced_forwards(replaced):
        changed = model(input_ids=tokens).logits
    # The blocks are called with hidden states first, and give back nothing but these.
    assert torch.equal(hooked[0], model.get_input_embeddings()(tokens)), MOVED
    assert not torch.allclose(changed, before)
    assert "forward" not in vars(first) and vars(second)["forward"] is own
    assert torch.equal(model(input_ids=tokens).logits, before)

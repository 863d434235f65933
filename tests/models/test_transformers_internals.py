"""What is used of transformers beside its public interface is still there.

A failure here means that a release of transformers has moved something:
``models/transformers_internals.py`` is the one place to change.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
import torch
from support.models import build_llama
from transformers import GenerationMixin
from transformers.cache_utils import Cache, DynamicCache

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.transformers_internals import CACHE, JoinedCache

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

"""The ensemble as a model of transformers: base + α (expert − anti-expert)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.kv_cache import CACHE
from lm_eval_trust.models.proxy_cache import JoinedCache
from lm_eval_trust.models.proxy_candidates import Candidates

Scope = Callable[[], AbstractContextManager[Any]]


@dataclass
class Part:
    """One of the three models.

    Parts may be one and the same module: what tells them apart is then their scope.

    Attributes:
        model: A causal model of transformers.
        scope: Entered around each of its forward passes, e.g. to switch an adapter on.
    """

    model: PreTrainedModel
    scope: Scope = nullcontext

    def __call__(self, input_ids: torch.Tensor, **settings: Any) -> Any:
        """Run the model on its own device."""
        device = self.model.device
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in settings.items()}
        with self.scope():
            return self.model(input_ids=input_ids.to(device), **moved)


@dataclass
class ProxyOutput(CausalLMOutputWithPast):  # type: ignore[misc]
    """What the ensemble returns.

    Attributes:
        base_logits: What the base model alone says, float32, of the shape of ``logits``.
    """

    base_logits: torch.Tensor | None = None


class ProxyTunedModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Proxy-tuning (Liu et al. 2024; arXiv 2402.19465, appendix F).

    The logits are those of ``base`` plus α times the difference of ``expert`` and
    ``antiexpert``, in float32. Everything that transformers' ``generate`` can do works on it;
    each part keeps a cache of its own behind the one that ``generate`` hands round.

    Args:
        base: The model that is moved; its configuration is the ensemble's.
        expert: What it is moved towards.
        antiexpert: What it is moved away from.
        alpha: How far.
        candidates: Restriction to what the base model holds likely.
    """

    config_class = None
    base_model_prefix = "base"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        base: Part,
        expert: Part,
        antiexpert: Part,
        *,
        alpha: float = 1.0,
        candidates: Candidates | None = None,
    ) -> None:
        config = copy.deepcopy(base.model.config)
        config.vocab_size = min(p.model.config.vocab_size for p in (base, expert, antiexpert))
        super().__init__(config)
        self.parts = {"base": base, "expert": expert, "antiexpert": antiexpert}
        self.base, self.expert, self.antiexpert = base.model, expert.model, antiexpert.model
        self.alpha = alpha
        self.candidates = candidates or Candidates()
        self.generation_config = copy.deepcopy(base.model.generation_config)

    def get_input_embeddings(self) -> nn.Module:
        """Return the base model's."""
        embeddings: nn.Module = self.base.get_input_embeddings()
        return embeddings

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: each part has tied its own weights."""

    def to(self, *args: Any, **kwargs: Any) -> ProxyTunedModel:
        """Return the model as it is: each part stays on the device that it was loaded to."""
        return self

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **settings: Any,
    ) -> ProxyOutput:
        """Return the ensemble's logits, float32, shape (rows, positions, vocabulary).

        Raises:
            InputError: No tokens, or a cache that does not hold all three parts.
        """
        if input_ids is None:
            raise InputError("An ensemble reads input_ids: embeddings differ from part to part.")
        cache: Cache | None = settings.pop(CACHE, None)
        if cache is None and use_cache:
            cache = JoinedCache([DynamicCache(config=p.model.config) for p in self.parts.values()])
        caches = _require_joined(cache).parts if cache is not None else (None, None, None)
        base, expert, antiexpert = (
            part(
                input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=bool(use_cache),
                logits_to_keep=logits_to_keep,
                **{CACHE: of_part},
                **settings,
            ).logits[..., : self.config.vocab_size]
            for part, of_part in zip(self.parts.values(), caches, strict=True)
        )
        base = base.float()
        difference = expert.to(base.device).float() - antiexpert.to(base.device).float()
        logits = self.candidates.restrict(base + self.alpha * difference, base)
        return ProxyOutput(logits=logits, base_logits=base, **{CACHE: cache})

    def _prepare_cache_for_generation(
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Have every part make the kind of cache that was asked for, and join them."""
        if model_kwargs.get(CACHE) is not None:
            _require_joined(model_kwargs[CACHE])
            return
        made: list[Cache] = []
        for part in self.parts.values():
            of_part = dict(model_kwargs)
            part.model._prepare_cache_for_generation(generation_config, of_part, *args, **kwargs)
            if of_part.get(CACHE) is None:
                return
            made.append(of_part[CACHE])
        model_kwargs[CACHE] = JoinedCache(made)


def _require_joined(cache: Cache) -> JoinedCache:
    if not isinstance(cache, JoinedCache):
        raise InputError(
            f"An ensemble keeps three caches; got a {type(cache).__name__}. Leave the cache out "
            f"to have them made."
        )
    return cache

"""What is used of transformers beside its public interface; tested with releases 5.15 to 5.24.

``tests/models/test_transformers_internals.py`` fails when a release moves any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm_eval_trust.core.errors import InputError

_NAMES = ("cache", "past_key_values")

#: What the installed release calls the cache of keys and values that forward passes take and
#: return. Older ones take ``cache`` in silence and ignore it, newer ones will no longer know
#: ``past_key_values``.
CACHE = next(name for name in _NAMES if name in {f.name for f in fields(CausalLMOutputWithPast)})


class JoinedCache(Cache):  # type: ignore[misc]
    """Several models' caches as one: its layers are theirs, one model after the other.

    Whatever is done to the whole (reordering for beams, cropping, repeating or selecting rows)
    runs over its layers and so reaches every part. Its length is that of the first part.

    Args:
        parts: One cache for each model, with all its layers there already.
    """

    def __init__(self, parts: Sequence[Cache]) -> None:
        super().__init__(layers=[layer for part in parts for layer in part.layers])
        #: Caches of the single models; they share their layers with the whole.
        self.parts = tuple(parts)

    @staticmethod
    def require(cache: Cache) -> JoinedCache:
        """Return the cache if it is a joined one.

        Raises:
            InputError: It is another one.
        """
        if not isinstance(cache, JoinedCache):
            raise InputError(
                f"An ensemble keeps three caches; got a {type(cache).__name__}. Leave the cache "
                f"out to have them made."
            )
        return cache


class JoiningGeneration(GenerationMixin):  # type: ignore[misc]
    """``generate`` for a model that is made of several, each with a cache of its own."""

    @property
    def cached_models(self) -> Sequence[PreTrainedModel]:
        """The models whose caches are joined, in the order of :attr:`JoinedCache.parts`."""
        raise NotImplementedError

    def _prepare_cache_for_generation(
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Have every model make the kind of cache that was asked for, and join them."""
        if model_kwargs.get(CACHE) is not None:
            JoinedCache.require(model_kwargs[CACHE])
            return
        made: list[Cache] = []
        for model in self.cached_models:
            of_model = dict(model_kwargs)
            model._prepare_cache_for_generation(generation_config, of_model, *args, **kwargs)
            if of_model.get(CACHE) is None:
                return
            made.append(of_model[CACHE])
        model_kwargs[CACHE] = JoinedCache(made)

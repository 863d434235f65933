"""What we use of transformers apart from its public interface.

Tested with releases 5.15 to 5.24; what only sweeps use (caches of stages, lent models, replaced
blocks) with 5.24.0. ``tests/models/test_transformers_internals.py`` fails when a release moves any
of it.
"""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm_eval_trust.core.errors import InputError

_NAMES = ("cache", "past_key_values")

#: What the installed release calls the cache of keys and values that forward passes take and
#: return. Older ones take ``cache`` in silence and ignore it, newer ones will no longer know
#: ``past_key_values``.
CACHE = next(name for name in _NAMES if name in {f.name for f in fields(CausalLMOutputWithPast)})
#: Model types whose cached steps differ when another model prepares them.
_NOT_JOINABLE = ("recurrent_gemma",)
#: All that models of transformers call what they keep of earlier passes.
STATES = (*_NAMES, "cache_params", "state")
#: Columns that keys and values have room for when they are moved to a larger place.
_SPARE_COLUMNS = 16


def loads(kind: Any, config: Any) -> bool:
    """Tell whether an automatic class knows a configuration, or its folder brings code for it."""
    return type(config) in kind._model_mapping or kind.__name__ in (
        getattr(config, "auto_map", None) or {}
    )


def require_joinable_cache(model: PreTrainedModel) -> None:
    """Refuse a model that keeps a special cache where a common one is made.

    Raises:
        InputError: It does.
    """
    if not model._supports_default_dynamic_cache() or model.config.model_type in _NOT_JOINABLE:
        raise InputError(
            f"{type(model).__name__} keeps a cache of its own kind, which an ensemble cannot hold "
            f"beside others. Evaluate the ensemble on tasks by log-likelihood, or choose models "
            f"of another family."
        )


def cache_argument(model: PreTrainedModel) -> str:
    """Return what a model's forward pass calls its cache; state-space models of 2025 differ."""
    taken = inspect.signature(model.forward).parameters
    return next((name for name in (CACHE, "cache_params") if name in taken), CACHE)


def keys_seen(cache: Cache) -> int:
    """Return how many positions the blocks that keep keys have seen; 0 if none does."""
    keys = (getattr(layer, "keys", None) for layer in getattr(cache, "layers", ()))
    lengths = [k.shape[-2] for k in keys if isinstance(k, torch.Tensor) and k.ndim == 4]
    return max(lengths, default=0)


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

    @property
    def is_compileable(self) -> bool:
        """No: ``generate`` would make one mask for all, where each part makes its own."""
        return False

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


class JoiningGenerationMixin(GenerationMixin):  # type: ignore[misc]
    """``generate`` for a model that is made of several, each with its own cache.

    transformers tells by the end of its name that a model with this base can generate.
    """

    @property
    @abstractmethod
    def cached_models(self) -> Sequence[PreTrainedModel]:
        """The models whose caches are joined, in the order of :attr:`JoinedCache.parts`."""

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


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one block with room for some more columns, which then cost no copy."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns; return all, shape (rows, heads, columns, width)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = (key_states[:, :, :0], value_states[:, :, :0])
        before, after = self._length(), self._length() + key_states.shape[-2]
        if after > self._room[0].shape[-2]:
            self._room = (
                _enlarged(self._room[0], before, after),
                _enlarged(self._room[1], before, after),
            )
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = states
        self._show(after)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        length = self._length()
        self._room = (self._room[0][indices], self._room[1][indices])
        self._show(length)

    def _length(self) -> int:
        return int(self.keys.shape[-2]) if self.keys.numel() else 0

    def _show(self, columns: int) -> None:
        self.keys, self.values = (room[:, :, :columns] for room in self._room)


def _enlarged(room: torch.Tensor, filled: int, needed: int) -> torch.Tensor:
    rows, heads, _, width = room.shape
    larger = room.new_empty((rows, heads, needed + _SPARE_COLUMNS, width))
    larger[:, :, :filled] = room[:, :, :filled]
    return larger


class StageCache(DynamicCache):  # type: ignore[misc]
    """Keys and values of the blocks of one stage; the blocks before it leave their layers empty.

    Args:
        first: First block of the stage that keeps keys, whose layer tells the length.
    """

    def __init__(self, first: int) -> None:
        super().__init__()
        self.layer_class_to_replicate = PreallocatedLayer
        self._first = first

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many positions the stage has seen."""
        if self._first >= len(self.layers):
            return 0
        length: int = super().get_seq_length(self._first)
        return length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return length and offset of the keys; the decoder asks before its first block."""
        return self.get_seq_length() + query_length, 0

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may occur several times."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.batch_select_indices(rows)


class DelegatingModel(PreTrainedModel):  # type: ignore[misc]
    """A model whose passes are others'; they decide what attention and experts are computed by."""

    config_class = None
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True


class LentModel(DelegatingModel, GenerationMixin):  # type: ignore[misc]
    """A model that ``generate`` prepares the decoding of, while another one does the reading.

    Args:
        model: The model that reads.
    """

    base_model_prefix = "model"

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(copy.deepcopy(model.config))
        # Not a sub-module: the weights belong to the model that lends them.
        self._lent = (model,)
        self.generation_config = copy.deepcopy(model.generation_config)

    @property
    def device(self) -> torch.device:
        """Where the tokens go."""
        device: torch.device = self._lent[0].device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the model that reads."""
        dtype: torch.dtype = self._lent[0].dtype
        return dtype

    def get_input_embeddings(self) -> nn.Module:
        """Return those of the model that reads."""
        embeddings: nn.Module = self._lent[0].get_input_embeddings()
        return embeddings

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no weights here."""


def padding_token(config: GenerationConfig) -> torch.Tensor | None:
    """Return the padding token that ``generate`` has prepared, or ``None`` without one."""
    token: torch.Tensor | None = config._pad_token_tensor
    return token


def keeps_state(model: nn.Module) -> bool:
    """Tell whether a model keeps a recurrent state, in all or some blocks, with or without keys.

    Such a state cannot be cut to a length, nor shared by what continues differently.
    """
    return bool(getattr(model, "_is_stateful", False))


@contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute something else; their hooks are called all the same.

    Args:
        forwards: Module → what takes the place of its ``forward``.
    """
    before = [(module, vars(module).get("forward")) for module in forwards]
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own

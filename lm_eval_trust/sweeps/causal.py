"""The shared pass as a model of transformers, so that ``generate`` itself does the decoding."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm_eval_trust.sweeps.shared import SharedForward


class SharedCache(Cache):  # type: ignore[misc]
    """What ``generate`` hands round in place of a cache: the pass keeps its own.

    Args:
        shared: The pass.
    """

    def __init__(self, shared: SharedForward) -> None:
        super().__init__(layers=[])
        self.shared = shared

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns were read."""
        return self.shared.length


class SharedCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A causal model whose rows are prompts times steering configurations.

    Args:
        model: The model that reads.
    """

    config_class = None
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(copy.deepcopy(model.config))
        # Not a sub-module: the weights belong to the model that lends them.
        self._lent = (model,)
        self.generation_config = copy.deepcopy(model.generation_config)
        ends = self.generation_config.eos_token_id
        self._ends = None if ends is None else torch.tensor(ends).reshape(-1)

    @property
    def device(self) -> torch.device:
        """Where the tokens go."""
        device: torch.device = self._lent[0].device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the model that reads."""
        dtype: torch.dtype = self._lent[0].dtype
        return dtype

    def get_input_embeddings(self) -> nn.Module:
        """Return those of the model that reads."""
        embeddings: nn.Module = self._lent[0].get_input_embeddings()
        return embeddings

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no weights here."""

    def forward(
        self,
        input_ids: torch.Tensor,
        cache: SharedCache,
        attention_mask: torch.Tensor | None = None,
        **settings: Any,
    ) -> CausalLMOutputWithPast:
        """Return the logits of the last column, shape (rows, 1, vocabulary).

        Args:
            input_ids: The columns after those that were read, shape (rows, columns).
            cache: Holds the pass.
            attention_mask: Of all columns, shape (rows, columns read and these); ``None`` where
                nothing is padded.
            **settings: What else ``generate`` passes; the pass counts positions by the mask.
        """
        mask = (
            torch.ones_like(input_ids)
            if attention_mask is None
            else attention_mask[:, -input_ids.shape[1] :]
        )
        if cache.shared.length and self._ends is not None:
            cache.shared.end(torch.isin(input_ids[:, -1], self._ends.to(input_ids.device)))
        output = cache.shared.read(input_ids, mask, keep=1)
        return CausalLMOutputWithPast(logits=output.logits[output.row_of], cache=cache)

"""Proxy-tuning: base + α (expert − anti-expert) as a model of transformers.

With the ensemble: which tokens it may choose from, and how far it moved an answer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import text_config
from lm_eval_trust.models.tokens import padded_batch
from lm_eval_trust.models.transformers_internals import (
    CACHE,
    DelegatingModel,
    JoinedCache,
    JoiningGenerationMixin,
    cache_argument,
    keys_seen,
)

Scope = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Candidates:
    """Which tokens an ensemble may choose from; all of them by default.

    As in DExperts (Liu et al. 2021, section 2.2), whose code truncates the base model's
    distribution before experts change it.

    Attributes:
        top_k: Number of the base model's likeliest tokens to keep; ``None`` for no limit.
        top_p: The base model's likeliest tokens until their probability reaches this; ``None``
            for no such limit.
    """

    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"proxy_top_k={self.top_k} leaves no token; expected 1 or more.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"proxy_top_p={self.top_p} is no probability above 0, up to 1.")

    def restrict(self, logits: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """Return logits (…, vocabulary) with −∞ wherever ``base``, of the same shape, rules out."""
        if self.top_k is not None and self.top_k < base.shape[-1]:
            least = base.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(base < least, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            logits = logits.masked_fill(~_nucleus(base, self.top_p), -torch.inf)
        return logits


def _nucleus(base: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return a mask of the smallest set of likeliest tokens whose probability reaches ``top_p``."""
    probabilities, order = base.softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    return torch.zeros_like(base, dtype=torch.bool).scatter(-1, order, before < top_p)


@dataclass
class Part:
    """One of the three models.

    Parts may be one and the same module, distinguished by their scope.

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
        base_logits: The base model's own logits, float32, of the shape of ``logits``.
    """

    base_logits: torch.Tensor | None = None


class ProxyTunedModel(DelegatingModel, JoiningGenerationMixin):
    """Proxy-tuning (Liu et al. 2024; arXiv 2402.19465, appendix F).

    The logits are those of ``base`` plus α times the difference of ``expert`` and
    ``antiexpert``, in float32. Everything that transformers' ``generate`` can do works on it;
    each part keeps its own cache behind the one that ``generate`` hands round.

    Args:
        base: The model that is moved; its configuration is the ensemble's.
        expert: What it is moved towards.
        antiexpert: What it is moved away from.
        alpha: How far.
        candidates: Restriction to what the base model holds likely.
        vocabulary: Number of tokens that are kept, from the first; by default all that the three
            models have rows for.
    """

    base_model_prefix = "base"

    def __init__(
        self,
        base: Part,
        expert: Part,
        antiexpert: Part,
        *,
        alpha: float = 1.0,
        candidates: Candidates | None = None,
        vocabulary: int | None = None,
    ) -> None:
        config = copy.deepcopy(base.model.config)
        super().__init__(config)
        rows = [text_config(part.model).vocab_size for part in (base, expert, antiexpert)]
        self.vocabulary = min(*rows, vocabulary or rows[0])
        self.parts = {"base": base, "expert": expert, "antiexpert": antiexpert}
        self.base, self.expert, self.antiexpert = base.model, expert.model, antiexpert.model
        self.alpha = alpha
        self.candidates = candidates or Candidates()
        self.generation_config = copy.deepcopy(base.model.generation_config)

    @property
    def cached_models(self) -> Sequence[PreTrainedModel]:
        """The three models, each with its own cache."""
        return [part.model for part in self.parts.values()]

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
        caches = JoinedCache.require(cache).parts if cache is not None else (None, None, None)
        base, expert, antiexpert = (
            part(
                input_ids,
                attention_mask=_mask_for(of_part, attention_mask, input_ids.shape[1]),
                position_ids=position_ids,
                use_cache=bool(use_cache),
                logits_to_keep=logits_to_keep,
                **{cache_argument(part.model): of_part},
                **settings,
            ).logits[..., : self.vocabulary]
            for part, of_part in zip(self.parts.values(), caches, strict=True)
        )
        base = base.float()
        difference = expert.to(base.device).float() - antiexpert.to(base.device).float()
        logits = self.candidates.restrict(base + self.alpha * difference, base)
        return ProxyOutput(logits=logits, base_logits=base, **{CACHE: cache})


def _mask_for(cache: Cache | None, mask: torch.Tensor | None, columns: int) -> torch.Tensor | None:
    """Return what a part has to know of the mask: one without keys, of the new columns only."""
    if cache is None or mask is None or keys_seen(cache):
        return mask
    return mask[:, -columns:]


@dataclass(frozen=True)
class TokenShift:
    """One token of an answer.

    Attributes:
        token: Its id.
        logprob: Its log-probability in the ensemble, in nats.
        base_logprob: Its log-probability in the base model.
        divergence: Kullback–Leibler divergence of the ensemble's distribution from the base
            model's at this place, in nats.
        base_choice: Id of the base model's likeliest token at this place.
    """

    token: int
    logprob: float
    base_logprob: float
    divergence: float
    base_choice: int


@torch.no_grad()
def measure_shift(
    model: ProxyTunedModel, answers: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[list[TokenShift]]:
    """Return how far each answer's tokens were moved, by the ensemble with its base model.

    Args:
        model: The ensemble.
        answers: Tokens of prompt and answer; a prompt has at least one. They run as one batch,
            padded on the right.
    """
    rows = [[*prompt, *answer] for prompt, answer in answers]
    output = model(**padded_batch(rows, side="right", device=model.device))
    mixed, base = output.logits.log_softmax(-1), output.base_logits.log_softmax(-1)
    # Tokens outside the candidates have probability 0 and add nothing to the divergence.
    ratio = torch.where(mixed > -torch.inf, mixed - base, 0.0)
    divergence = (mixed.exp() * ratio).sum(-1)
    choices = base.argmax(-1)
    found = []
    for row, (prompt, answer) in enumerate(answers):
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        found.append(
            [
                TokenShift(
                    token=token,
                    logprob=mixed[row, place, token].item(),
                    base_logprob=base[row, place, token].item(),
                    divergence=divergence[row, place].item(),
                    base_choice=int(choices[row, place]),
                )
                for place, token in zip(places, answer, strict=True)
            ]
        )
    return found

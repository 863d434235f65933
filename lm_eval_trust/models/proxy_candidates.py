"""Restriction of what may be said to what the base model holds likely."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lm_eval_trust.core.errors import InputError


@dataclass(frozen=True)
class Candidates:
    """Which tokens an ensemble may choose from; all of them by default.

    As in DExperts (Liu et al. 2021, section 2.2), whose code truncates the base model's
    distribution before experts change it.

    Attributes:
        top_k: The base model's so many likeliest tokens; ``None`` for no such limit.
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
    """Return which tokens are in the smallest set of likeliest ones that holds ``top_p``."""
    probabilities, order = base.softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    return torch.zeros_like(base, dtype=torch.bool).scatter(-1, order, before < top_p)

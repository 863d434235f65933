"""A prompt by which one sees whether an engine serves the baked model or the one it came from.

An engine whose code for an architecture knows no biases may leave them out while loading, without
an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lm_eval_trust.steering.bake_check import PROMPTS


@dataclass(frozen=True)
class Probe:
    """The prompt after which the baked model differs most from its base.

    Attributes:
        prompt: The text.
        token: The baked model's likeliest next token, as text.
        baked: Its log-probability there, in nats.
        base: Its log-probability in the base model.
    """

    prompt: str
    token: str
    baked: float
    base: float

    def __str__(self) -> str:
        return (
            f"After the prompt {json.dumps(self.prompt, ensure_ascii=False)} the likeliest token "
            f"is {json.dumps(self.token, ensure_ascii=False)} with log-probability "
            f"{self.baked:.2f}; the base model gives it {self.base:.2f}."
        )


def find_probe(
    tokenizer: Any, rows: Sequence[Sequence[int]], baked: torch.Tensor, base: torch.Tensor
) -> Probe:
    """Return the most telling prompt.

    Args:
        tokenizer: The model's.
        rows: The prompts' tokens.
        baked: Logits of the baked or hooked model, as
            :func:`lm_eval_trust.steering.bake_check.logits_of` returns them.
        base: Logits of the base model, likewise.
    """
    ends = torch.tensor([len(row) for row in rows]).cumsum(dim=0) - 1
    likely, before = baked[ends].log_softmax(dim=-1), base[ends].log_softmax(dim=-1)
    top = likely.argmax(dim=-1)
    places = torch.arange(len(rows))
    gain = likely[places, top] - before[places, top]
    best = int(gain.argmax())
    token = int(top[best])
    return Probe(
        prompt=_text(tokenizer, best, rows[best]),
        token=str(tokenizer.decode([token])),
        baked=float(likely[best, token]),
        base=float(before[best, token]),
    )


def _text(tokenizer: Any, index: int, row: Sequence[int]) -> str:
    """Return the prompt, or what is left of it where the model's context is too short for it."""
    whole = tokenizer(PROMPTS[index], verbose=False)["input_ids"]
    if len(row) == len(whole):
        return PROMPTS[index]
    return str(tokenizer.decode(row, skip_special_tokens=True))

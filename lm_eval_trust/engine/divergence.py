"""KL(unsteered ‖ steered), measured in the worker.

vLLM tells a client the log-probabilities of a few tokens, and the divergence takes those of all.
The worker keeps the last hidden states of an unsteered request, from which the logits follow, and
compares the steered requests of the same text with them, position by position.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

#: Name of the argument in ``SamplingParams.extra_args``.
ARGUMENT = "lm_eval_trust_divergence"
#: Positions whose logits are compared at once; they are as wide as the vocabulary.
_AT_ONCE = 256


@dataclass(frozen=True)
class Compared:
    """What a request takes part in.

    Attributes:
        text: Name that the unsteered request and the steered ones of a text share.
        plan: Name of the steering; empty for the unsteered request, which goes first.
        first: Index of the first token whose next one is scored.
    """

    text: str
    plan: str
    first: int

    def arguments(self) -> dict[str, str]:
        """Return it as ``extra_args`` of ``SamplingParams``."""
        return {ARGUMENT: json.dumps(vars(self))}

    @classmethod
    def of(cls, parameters: Any) -> Compared | None:
        """Return what ``SamplingParams`` say; ``None`` where nothing is compared."""
        given = (getattr(parameters, "extra_args", None) or {}).get(ARGUMENT)
        return None if given is None else cls(**json.loads(given))


class DivergenceMeter:
    """Compares requests of one worker.

    Args:
        logits: Makes logits, shape (positions, vocabulary), of last hidden states.
    """

    def __init__(self, logits: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        self._logits = logits
        self._states: dict[str, torch.Tensor] = {}
        self._found: dict[tuple[str, str], torch.Tensor] = {}

    def read(self, asked: Compared, tokens: int, start: int, states: torch.Tensor) -> None:
        """Take in a part of a request.

        Args:
            asked: What the request takes part in.
            tokens: How many tokens it sends in all; the last one's next is not scored.
            start: Index of the first token of the part.
            states: Last hidden states of the part, shape (positions, hidden).
        """
        begin, end = max(start, asked.first), min(start + len(states), tokens - 1)
        if begin >= end:
            return
        states = states[begin - start : end - start]
        rows = slice(begin - asked.first, end - asked.first)
        scored = tokens - 1 - asked.first
        if not asked.plan:
            kept = self._states.setdefault(
                asked.text, torch.empty(scored, states.shape[1], dtype=states.dtype)
            )
            kept[rows] = states.cpu()
            return
        # What nobody has compared is no number, and so is their sum.
        found = self._found.setdefault(
            (asked.text, asked.plan), torch.full((scored,), torch.nan, dtype=torch.float64)
        )
        reference = self._states[asked.text][rows].to(states.device)
        for row in range(0, len(states), _AT_ONCE):
            part = slice(row, row + _AT_ONCE)
            told = self._divergence(reference[part], states[part])
            if told is not None:
                found[rows][part] = told.cpu()

    def _divergence(self, unsteered: torch.Tensor, steered: torch.Tensor) -> torch.Tensor | None:
        before, after = self._logits(unsteered), self._logits(steered)
        if before is None or after is None:  # Another worker has them.
            return None
        reference = before.float().log_softmax(dim=-1)
        difference = reference - after.float().log_softmax(dim=-1)
        return (reference.exp() * difference).sum(dim=-1, dtype=torch.float64)

    def take(self) -> list[tuple[str, str, float]]:
        """Return text, plan and the sum over its positions, in nats, and forget everything."""
        found = [(*key, float(row.sum().clamp(min=0))) for key, row in self._found.items()]
        self._states, self._found = {}, {}
        return found

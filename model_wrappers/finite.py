"""Refuse logits that are no numbers, before anything is computed from them.

The largest of scores that are NaN is an arbitrary one, so a broken model looks like a bad one.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from lm_eval_trust.core.errors import InputError

#: Characters of a request that a message quotes.
_QUOTED = 80


def check_logits(logits: torch.Tensor, tokens: torch.Tensor, tokenizer: Any) -> None:
    """Refuse logits of which one is NaN or infinite; −∞ stands for a token that is ruled out.

    Args:
        logits: Shape (rows, positions, vocabulary).
        tokens: What was read, shape (rows, positions).
        tokenizer: To quote it.

    Raises:
        InputError: With the first such row.
    """
    # The largest of some values with a NaN among them is NaN.
    largest = logits.amax(dim=(1, 2))
    if bool((largest.abs() < torch.inf).all()):
        return
    row = int((~(largest.abs() < torch.inf)).nonzero()[0, 0])
    raise _not_finite(tokenizer.decode(tokens[row]))


class FiniteLogits(LogitsProcessor):  # type: ignore[misc]
    """Notices logits that are no numbers while answers are generated.

    Nothing is raised before :meth:`check`, so an accelerator does not wait at every token.
    """

    def __init__(self) -> None:
        self._broken: torch.Tensor | None = None

    @classmethod
    def beside(cls, processors: Any) -> tuple[FiniteLogits, LogitsProcessorList]:
        """Return one, and the processors of a call with it in front."""
        own = cls()
        return own, LogitsProcessorList([own, *(processors or ())])

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores as they are, shape (rows, vocabulary)."""
        broken = ~(scores.amax(dim=-1).abs() < torch.inf)
        self._broken = broken if self._broken is None else self._broken | broken
        return scores

    def broken(self, prompts: int) -> list[int]:
        """Return for which of so many prompts a logit was no number; each may have several rows."""
        if self._broken is None:
            return []
        rows = self._broken.nonzero()[:, 0].tolist()
        return sorted({row * prompts // len(self._broken) for row in rows})

    def check(self, prompts: torch.Tensor, tokenizer: Any) -> None:
        """Raise if any of them was no number.

        Args:
            prompts: Token ids, shape (rows, positions).
            tokenizer: To quote them.

        Raises:
            InputError: With the first such prompt.
        """
        for row in self.broken(len(prompts)):
            raise _not_finite(tokenizer.decode(prompts[row], skip_special_tokens=True))


def _not_finite(prompt: str) -> InputError:
    end = " ".join(prompt.split())[-_QUOTED:]
    return InputError(
        f"The model's logits are NaN or infinite for the request that ends {end!r}, so that its "
        f"scores would mean nothing. Lower alpha, take dtype=float32 or bfloat16, or check the "
        f"weights. Earlier answers that --use_cache keeps stay."
    )

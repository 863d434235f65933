"""Check that a baked model computes what the hooked one does, and find a prompt that shows it.

Logits of prompts are compared. An engine that does not know biases for an architecture may drop
them while loading, without an error; the probe is a prompt that shows which model answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.models.tokens import context_length, padded_batch

#: From two words to several sentences, so that a batch of them is padded.
PROMPTS = (
    "Good morning",
    "Q: Which river runs through the old town?\nA:",
    "The recipe asks for three eggs, a cup of flour, and a pinch of salt. First, the oven",
    "Dear Sir or Madam,\n\nI write to you about the letter of 12 May, which reached me only last "
    "week. The amount that it names is 1,250.40 and not 1,520.40.",
    "def mean(values):\n    return",
    "When the ferry was late again, the two sisters sat down on the pier and counted the gulls. "
    "Nobody had told them that the winter timetable began on the first of the month, nor that the "
    "café would be closed. Still, the younger one said, there are worse places to wait, and",
)

#: Rounding of float32 along a deep model, in units of the largest logit's last place: a hundred
#: times what another order of additions costs SmolLM2's thirty blocks.
_ROUNDING = 1000
#: What rounding biases to the dtype of the weights may cost, as a part of what the steering
#: changes: several times the dtype's resolution, below what a wrong layer, sign or strength gives.
_STORING = {"float32": 0.0, "float16": 0.01, "bfloat16": 0.05}


@dataclass(frozen=True)
class Agreement:
    """How close a baked model is to the hooked one; logits computed in float32.

    Attributes:
        from_hooked: Largest difference of a logit from the hooked model's.
        from_unsteered: Largest difference of a logit from the model's without steering.
        largest_logit: Largest absolute logit of the hooked model.
        tokens: Number of tokens whose logits were compared.
        dtype: Dtype of the stored weights.
    """

    from_hooked: float
    from_unsteered: float
    largest_logit: float
    tokens: int
    dtype: str

    @classmethod
    def of(
        cls, baked: torch.Tensor, hooked: torch.Tensor, unsteered: torch.Tensor, *, dtype: str
    ) -> Agreement:
        """Compare logits of the same tokens, each of shape (tokens, vocabulary)."""
        return cls(
            from_hooked=float((baked - hooked).abs().max()),
            from_unsteered=float((baked - unsteered).abs().max()),
            largest_logit=float(hooked.abs().max()),
            tokens=hooked.shape[0],
            dtype=dtype,
        )

    @property
    def allowed(self) -> float:
        """Largest difference from the hooked model that rounding explains."""
        rounding = _ROUNDING * torch.finfo(torch.float32).eps * self.largest_logit
        return rounding + _STORING[self.dtype] * self.from_unsteered

    @property
    def holds(self) -> bool:
        """Whether the baked model is the hooked one up to rounding; never for NaN."""
        return self.from_hooked <= self.allowed

    def check(self, *, instead: str = "Steer it with steered_amber") -> None:
        """Raise unless it holds.

        Args:
            instead: What the user can do where no dtype helps.

        Raises:
            InputError: With both numbers.
        """
        if self.holds:
            return
        rounded = self.dtype != "float32"
        remedy = "Bake with --dtype float32" if rounded else f"{instead} instead"
        raise InputError(
            f"The baked model does not compute what the hooked one does: its logits differ by up "
            f"to {self.from_hooked:.2g}, where rounding to {self.dtype} explains "
            f"{self.allowed:.2g}. Nothing was written. {remedy}."
        )

    def __str__(self) -> str:
        return (
            f"largest difference of a logit from the hooked model {self.from_hooked:.2g} (allowed "
            f"{self.allowed:.2g}), from the unsteered one {self.from_unsteered:.2g}; "
            f"{self.tokens} tokens, computed in float32"
        )


def prompt_tokens(model: Any, tokenizer: Any) -> list[list[int]]:
    """Return the prompts as token ids, cut to the model's context."""
    limit = context_length(model)
    rows: list[list[int]] = tokenizer(list(PROMPTS), verbose=False)["input_ids"]
    return [row[:limit] for row in rows]


def logits_of(model: Any, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits at every token: of all rows as one padded batch, then of each alone.

    Args:
        model: Model in evaluation mode.
        rows: Token ids.

    Returns:
        Float32 on the CPU, shape (tokens, vocabulary).
    """
    batches = [rows, *([row] for row in rows)]
    bar = progress_bar(batches, "Computing logits", unit="batch")
    return torch.cat([_logits(model, batch) for batch in bar])


@torch.no_grad()
def _logits(model: Any, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    batch = padded_batch(rows, device=model.get_input_embeddings().weight.device)
    logits: torch.Tensor = model(**batch).logits[batch["attention_mask"].bool()]
    return logits.float().cpu()


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
            :func:`logits_of` returns them.
        base: Logits of the base model, of the same form.
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
    """Return the prompt, or the part of it that fits the model's context."""
    whole = tokenizer(PROMPTS[index], verbose=False)["input_ids"]
    if len(row) == len(whole):
        return PROMPTS[index]
    return str(tokenizer.decode(row, skip_special_tokens=True))

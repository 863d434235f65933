"""How far each answer was moved: the ensemble beside its base model, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lm_eval_trust.models.proxy_model import ProxyTunedModel


@dataclass(frozen=True)
class TokenMovement:
    """One token of an answer.

    Attributes:
        token: Its id.
        logprob: Its log-probability in the ensemble, in nats.
        base_logprob: Its log-probability in the base model.
        divergence: Kullback–Leibler divergence of the ensemble's distribution from the base
            model's at this place, in nats.
        base_choice: Id of the token that the base model holds likeliest here.
    """

    token: int
    logprob: float
    base_logprob: float
    divergence: float
    base_choice: int


@torch.no_grad()
def measure_movement(
    model: ProxyTunedModel, answers: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[list[TokenMovement]]:
    """Return the movement of each answer's tokens.

    Args:
        model: The ensemble.
        answers: Tokens of prompt and answer; a prompt has at least one. They run as one batch,
            padded on the right.
    """
    rows = [[*prompt, *answer] for prompt, answer in answers]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    mask = torch.tensor(
        [[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device
    )
    output = model(input_ids=ids, attention_mask=mask)
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
                TokenMovement(
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

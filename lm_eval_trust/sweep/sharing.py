"""Whether the configurations of a sweep can share their passes, by what a model is and does."""

from __future__ import annotations

from typing import Any

import torch

from lm_eval_trust.core.errors import reason_of
from lm_eval_trust.models.decoder_blocks import hidden_size, text_blocks, text_config
from lm_eval_trust.models.own_models import WrappedModel
from lm_eval_trust.models.reading import rounding_of
from lm_eval_trust.models.transformers_internals import keeps_state
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector
from lm_eval_trust.sweep.batched_forward import BatchedForward
from lm_eval_trust.sweep.scoring import aligned_prompts, may_pad_within

#: Lengths of the two prompts that are tried.
_LENGTHS = (11, 6)


def why_apart(model: Any) -> str:
    """Return why configurations have to run one after the other; empty where they share passes.

    A few short prompts are read both ways, so a family nobody has tested is not taken on
    trust.

    Args:
        model: The model to be swept.
    """
    name = type(model).__name__
    if keeps_state(model):
        return f"{name} keeps a state instead of keys and values"
    if isinstance(model, WrappedModel):
        return f"{model.config.name_or_path} is a module without a cache"
    try:
        off, spread = _difference(model)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"{name} does not read stage by stage ({reason_of(error)})"
    if off > rounding_of(model, spread):
        return f"{name} gives other logits when it is read stage by stage"
    return ""


@torch.inference_mode()
def _difference(model: Any) -> tuple[float, float]:
    """Return how far logits of shared passes are off, and the logits' standard deviation."""
    plans = _plans(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(text_config(model).vocab_size)
    rows = torch.randint(vocabulary // 4, vocabulary // 2, (2, _LENGTHS[0]), generator=generator)
    rows[1, : _LENGTHS[1] // 2] = rows[0, : _LENGTHS[1] // 2]
    prompts = [rows[i, :length] for i, length in enumerate(_LENGTHS)]
    padded = torch.stack(
        [torch.nn.functional.pad(row, (_LENGTHS[0] - len(row), 0), value=-1) for row in prompts]
    )
    laid = aligned_prompts(
        padded.clamp(min=0), (padded >= 0).long(), padded_within=may_pad_within(model)
    )
    shared = BatchedForward(model, plans, prompts=2, prompt_end=laid.prompt_end)
    tokens, mask = (
        part.to(device).repeat_interleave(len(plans), dim=0) for part in (laid.tokens, laid.mask)
    )
    found = [shared.read(tokens, mask, keep=1)]
    new = rows[:, -1:].repeat_interleave(len(plans), dim=0).to(device)
    found.append(shared.read(new, torch.ones_like(new), keep=1))
    off, spread = 0.0, 0.0
    for number, prompt in enumerate(prompts):
        whole = torch.cat([prompt, rows[number, -1:]]).to(device)[None]
        for at, plan in enumerate(plans):
            with Steerer(model, plan).apply(len(prompt) - 1):
                expected = model(input_ids=whole, use_cache=False).logits[0, -2:].float()
            for output, wanted in zip(found, expected, strict=True):
                seen = output.logits[output.row_of[number * len(plans) + at], -1].float()
                off = max(off, float((seen - wanted).abs().max()))
            spread = max(spread, float(expected.std()))
    return off, spread


def _plans(model: Any) -> list[SteeringPlan]:
    """Return plans that act early and late, everywhere and after the prompt."""
    width, layers = hidden_size(model), text_blocks(model)
    first, middle = layers[0], layers[(len(layers) - 1) // 2]
    direction = torch.randn(width, generator=torch.Generator().manual_seed(0))
    vector = SteeringVector(
        {layer: LayerVector(direction, 1.0, 0.0) for layer in {first, middle}}, name="trial"
    )
    return [
        SteeringPlan(),
        SteeringPlan.from_vector(vector, [middle], alpha=1.0, scale="none"),
        SteeringPlan.from_vector(vector, [first], alpha=1.0, scale="none", positions="all"),
    ]

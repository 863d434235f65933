"""Whether a model can be steered: its blocks are found, and steering them changes its answer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.doctor.checks import Check, checked
from lm_eval_trust.models.decoder_blocks import hidden_size, number_of_blocks
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

SECTION = "model"
PROMPT = "The capital of the island is"


def look(path: str) -> list[Check]:
    """Return what became of loading the model and of steering one token of it."""
    return [checked(SECTION, path, lambda: _dry_run(path))]


def _dry_run(path: str) -> Check:
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokens = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    steerer = Steerer(model, _random_plan(model))
    plain = _next_token_logits(model, tokens)
    with steerer.apply():
        steered = _next_token_logits(model, tokens)
    after = _next_token_logits(model, tokens)
    blocks = f"{number_of_blocks(model)} decoder blocks of width {hidden_size(model)}"
    if torch.equal(plain, steered):
        return Check(SECTION, path, "failed", f"{blocks}, but steering one changes no logit")
    if not torch.equal(plain, after):
        return Check(SECTION, path, "failed", f"{blocks}, but the model stays changed afterwards")
    change = float((steered - plain).abs().max())
    detail = f"{blocks}; a dry run of steering moved the logits by up to {change:.2g}"
    return Check(SECTION, path, "ok", detail)


def _random_plan(model: Any) -> SteeringPlan:
    """Return a plan that adds a random unit direction at the middle block."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(hidden_size(model), generator=generator)
    middle = number_of_blocks(model) // 2
    return SteeringPlan((SteeringStep(middle, vector / vector.norm(), origin="dry run"),))


@torch.inference_mode()
def _next_token_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=tokens).logits[0, -1]
    return logits

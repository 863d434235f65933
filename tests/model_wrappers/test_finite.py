"""Logits that are no numbers end a run before anything is scored, and name the request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_model
from support.conformance import generation_requests, rolling_requests, scoring_requests
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.finite import FiniteLogits
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

PROMPT = "Who rules Bram?"


def create(folder: Path, value: float) -> Any:
    """A model whose logits of the last token have this value; its weights were finite once."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.register_forward_hook(lambda _module, _inputs, output: _set(output, value))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return get_model("amber")(pretrained=model, tokenizer=tokenizer, batch_size=2)


def _set(output: Any, value: float) -> Any:
    output.logits[..., -1] = value
    return output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_each_kind_of_request_ends_the_run(tiny_llama: Callable[..., Path], value: float) -> None:
    lm = create(tiny_llama(), value)
    message = r"logits are NaN or infinite for the request that ends '.*Bram"
    with pytest.raises(InputError, match=message):
        lm.loglikelihood(scoring_requests([(PROMPT, " N")]), disable_tqdm=True)
    with pytest.raises(InputError, match=message):
        lm.loglikelihood_rolling(rolling_requests([PROMPT]), disable_tqdm=True)
    with pytest.raises(InputError, match=message):
        lm.generate_until(generation_requests([PROMPT], max_gen_toks=3), disable_tqdm=True)


def test_tokens_that_are_ruled_out_are_none(tiny_llama: Callable[..., Path]) -> None:
    lm = create(tiny_llama(), float("-inf"))
    lm.loglikelihood(scoring_requests([(PROMPT, " N")]), disable_tqdm=True)
    lm.generate_until(generation_requests([PROMPT], max_gen_toks=3), disable_tqdm=True)


def test_a_steering_that_overflows_within_the_model_ends_the_run(
    tiny_llama: Callable[..., Path],
) -> None:
    lm = get_model("amber")(pretrained=str(tiny_llama()), dtype="float32", device="cpu")
    vector = torch.zeros(lm.model.config.hidden_size)
    vector[0] = 1.0
    # Each is finite; their sum in the residual stream is not.
    lm.steer_by(SteeringPlan(tuple(SteeringStep(at, vector, alpha=3e38) for at in (0, 1))))
    with pytest.raises(InputError, match="logits are NaN or infinite"):
        lm.loglikelihood(scoring_requests([(PROMPT, " N")]), disable_tqdm=True)


def test_the_prompt_of_a_broken_beam_is_named(tiny_llama: Callable[..., Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama())
    noticed, processors = FiniteLogits.beside(None)
    prompts = torch.tensor([tokenizer(text)["input_ids"] for text in ("left", "mown")])
    scores = torch.zeros(4, 10)
    scores[3, 2] = float("nan")
    assert processors(prompts, scores) is scores
    with pytest.raises(InputError, match=r"'.*mown'"):
        noticed.check(prompts, tokenizer)

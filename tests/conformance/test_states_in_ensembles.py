"""An ensemble of models that keep their state in a cache of their own scores but does not write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lm_eval.api.registry import get_model
from support.conformance import generation_requests, scoring_requests
from support.families import FAMILIES, Loop, save_family
from support.models import build_tokenizer

from lm_eval_trust.core.errors import InputError

PAIRS = [("The miller of Ankoria", " yes"), ("a", " no, never"), ("yes or no", "!")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent_gemma", "minimax"])
def test_such_an_ensemble_scores_exactly_and_says_that_it_can(name: str, tmp_path: Path) -> None:
    """With its base as antiexpert and α = 1, an ensemble is its expert."""
    base, expert = save_family(name, tmp_path / "base"), tmp_path / "expert"
    model, tokenizer = FAMILIES[name].build(), build_tokenizer()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    model.save_pretrained(expert)
    tokenizer.save_pretrained(expert)
    parts = {"pretrained": str(base), "expert": str(expert), "antiexpert": str(base)}
    lm = get_model("proxy_amber").create_from_arg_obj(
        {**parts, "dtype": "float32"}, {"batch_size": 3, "device": "cpu"}
    )
    alone, expected = Loop(expert, FAMILIES[name].blocks), []
    for prompt, more in PAIRS:
        before, after = tokenizer(prompt).input_ids, tokenizer(more).input_ids
        logs = alone.logits([*before, *after]).log_softmax(-1)
        rows = range(len(before) - 1, len(before) + len(after) - 1)
        expected.append(sum(float(logs[r, t]) for r, t in zip(rows, after, strict=True)))
    found = [score for score, _ in lm.loglikelihood(scoring_requests(PAIRS), disable_tqdm=True)]
    assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(InputError, match=r"Evaluate the ensemble on tasks by log-likelihood"):
        lm.generate_until(generation_requests(["a"], max_gen_toks=4), disable_tqdm=True)

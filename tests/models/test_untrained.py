"""Models with random weights: another model of the same kind, the same each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from lm_eval_trust.models.sources import load_source
from lm_eval_trust.models.untrained import untrained


def test_weights_are_drawn_anew_and_nothing_else_changes(tiny_llama: Callable[..., Path]) -> None:
    model, _, identity = load_source(str(tiny_llama()), dtype="bfloat16", device="cpu")
    before = torch.random.get_rng_state()
    fresh, named = untrained(model, identity, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    again, _ = untrained(model, identity, seed=3)
    other, others = untrained(model, identity, seed=4)
    weights = [m.state_dict() for m in (model, fresh, again, other)]
    name = next(n for n, w in weights[0].items() if w.ndim == 2)
    trained, drawn, same, different = (w[name] for w in weights)
    assert torch.equal(drawn, same)
    assert not torch.equal(drawn, different) and not torch.equal(drawn, trained)
    assert drawn.dtype == trained.dtype and drawn.shape == trained.shape
    assert abs(float(drawn.float().std()) / model.config.initializer_range - 1) < 0.2
    assert fresh.config == model.config and not fresh.training
    assert len({identity.text, named.text, others.text}) == 3

"""Restriction to what the base model holds likely, against a loop over sorted tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.proxy_candidates import Candidates


def kept(restricted: torch.Tensor) -> set[int]:
    return {i for i, value in enumerate(restricted.tolist()) if value > float("-inf")}


def test_all_tokens_by_default() -> None:
    logits, base = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    assert torch.equal(Candidates().restrict(logits, base), logits)
    assert torch.equal(Candidates(top_k=7, top_p=1.0).restrict(logits, base), logits)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 11), top_p=st.floats(0.01, 0.99))
def test_restriction_equals_a_loop(seed: int, top_k: int, top_p: float) -> None:
    torch.manual_seed(seed)
    logits, base = torch.randn(11, dtype=torch.float64), 3 * torch.randn(11, dtype=torch.float64)
    order = sorted(range(11), key=lambda i: -base[i].item())
    probabilities = base.softmax(-1)
    nucleus: set[int] = set()
    total = 0.0
    for token in order:
        if total >= top_p:
            break
        nucleus.add(token)
        total += probabilities[token].item()
    assert kept(Candidates(top_k=top_k).restrict(logits, base)) == set(order[:top_k])
    assert kept(Candidates(top_p=top_p).restrict(logits, base)) == nucleus
    both = Candidates(top_k=top_k, top_p=top_p).restrict(logits, base)
    assert kept(both) == nucleus & set(order[:top_k])
    assert all(both[i] == logits[i] for i in kept(both))


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_restrictions_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="proxy_top"):
        Candidates(**settings)

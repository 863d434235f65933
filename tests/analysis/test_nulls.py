"""The permutation null against a loop over its permutations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_eval_trust.analysis.nulls import permutation_null
from lm_eval_trust.core.errors import InputError


def symmetric(n: int, seed: int) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n)))
    return values + values.T


@pytest.mark.parametrize("n", [3, 8, 31, 60])
def test_it_equals_a_loop_over_its_permutations(n: int) -> None:
    a, b = symmetric(n, 0), symmetric(n, 1)
    found = permutation_null(a, b, permutations=n, seed=5)
    order = torch.from_numpy(np.random.default_rng(5).permutation(n))
    null = []
    for shift in range(1, n):
        # The sample at each place of the order takes the place of the one `shift` further on.
        target = torch.empty(n, dtype=torch.long)
        target[order] = order.roll(-shift)
        null.append((a * b[target][:, target]).sum().item())
    value = (a * b).sum().item()
    assert found.permutations == n - 1
    assert found.value == pytest.approx(value)
    assert found.mean == pytest.approx(np.mean(null))
    assert found.quantile95 == pytest.approx(np.quantile(null, 0.95))
    assert found.p == pytest.approx((1 + sum(v >= value for v in null)) / n)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3"):
        permutation_null(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(InputError, match="of one size"):
        permutation_null(torch.ones(3, 3), torch.ones(4, 4))

"""Is the steered model different? Paired differences over items, with intervals by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm_eval_trust.demo.cells import Item
from lm_eval_trust.errors import InputError

_RESAMPLES = 5000


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval.

    Attributes:
        mean: Of the paired differences.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    before: Sequence[Item], after: Sequence[Item], metric: str, *, seed: int = 0
) -> Difference:
    """Return the mean of ``after`` minus ``before`` over the same items.

    The interval is the percentile bootstrap over groups: items of one question or one pair of
    names are drawn together, since they stand or fall together.

    Raises:
        InputError: The two hold different items.
    """
    if [item["group"] for item in before] != [item["group"] for item in after]:
        raise InputError("The two evaluations hold different items; evaluate both on the same.")
    differences = np.array(
        [b[metric] - a[metric] for a, b in zip(before, after, strict=True)], dtype=np.float64
    )
    _, group = np.unique([str(item["group"]) for item in before], return_inverse=True)
    sums, sizes = np.bincount(group, weights=differences), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high))

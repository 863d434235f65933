"""What so many items can show: the smallest change, and the items that a change needs.

A change that is shown comes out of items that differ, so it adds variance of its own: at most
``reach·x − x²`` an item for a mean change x, where whole groups change together. The power rests on
the variance under the change, not on the one that was seen without it; else two models that agree
on every item would seem to have been told apart with certainty. A gain that was observed is in
the seen variance already, and counts once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from lm_eval_trust.gate.intervals import Contrast

#: How often a change that a check calls detectable is to be shown.
POWER = 0.975
#: How surely the variance is below the one that is reckoned with.
_BOUND = 0.9
#: Items that may differ another time though none did, at 95 % confidence.
_MISSED = 3


@dataclass(frozen=True)
class Design:
    """Items, and how much their differences vary while nothing is lost or won.

    Attributes:
        variance: Of the paired mean.
        items: Effective ones, see :class:`Contrast`.
        groups: Groups of items, whose number is what the test reckons with.
        reach: Largest amount by which one item is expected to differ.
        quantiles: Student's of the test and of the power, added.
    """

    variance: float
    items: float
    groups: int
    reach: float
    quantiles: float

    @classmethod
    def of(cls, contrast: Contrast, confidence: float, power: float = POWER) -> Design:
        """Take the variance from what was observed.

        A variance that is as often too small as too large would promise too much in half of the
        cases, so it is the upper end of its 90 % bound for normal differences, and has three more
        items that differ: so many may have been missed (the rule of three, Hanley and
        Lippman-Hand 1983).
        """
        quantiles = contrast.quantile((1 + confidence) / 2) + contrast.quantile(power)
        freedom = max(contrast.groups - 1, 1)
        larger = freedom / float(stats.chi2.ppf(1 - _BOUND, freedom))
        missed = _MISSED * (contrast.reach / contrast.effective_items) ** 2
        return cls(
            contrast.standard_error**2 * larger + missed,
            contrast.effective_items,
            contrast.groups,
            contrast.reach,
            quantiles,
        )

    def smallest_shown(self, beyond: float = 0.0, held: float = 0.0) -> float:
        """Return the smallest true change that is shown to lie beyond an amount, nearly always.

        It solves (x − beyond)² = quantiles² (variance + added / items) for x, where
        added = reach·max(0, x − held) + held² − x²; infinite for a single group.

        Args:
            beyond: The amount.
            held: A change in the same direction that the observed variance has in it already.
        """
        if not math.isfinite(self.variance):
            return math.inf
        added = self.quantiles**2 / self.items if self.reach else 0.0
        observed = self.quantiles**2 * self.variance + added * held**2
        within = _larger_root(1 + added, 2 * beyond, beyond**2 - observed)
        if within <= held:
            return within
        middle = 2 * beyond + added * self.reach
        return _larger_root(1 + added, middle, beyond**2 - observed + added * self.reach * held)

    def groups_needed(self, change: float, beyond: float = 0.0) -> int | None:
        """Return how many groups like these would show a change beyond an amount.

        ``None`` where no number would: the change is not beyond it, or there is one group only.
        """
        if change <= beyond or not math.isfinite(self.variance):
            return None
        extra = max(0.0, self.reach * change - change**2) / self.items if self.reach else 0.0
        variance = self.groups * (self.variance + extra)
        return max(2, math.ceil(self.quantiles**2 * variance / (change - beyond) ** 2))


def _larger_root(square: float, middle: float, constant: float) -> float:
    """Return the larger x with square·x² − middle·x + constant = 0."""
    root = math.sqrt(max(0.0, middle**2 - 4 * square * constant))
    return (middle + root) / (2 * square)

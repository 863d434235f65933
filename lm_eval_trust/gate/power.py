"""Power: the smallest change that the items can show, and the items that a change needs.

A change comes from items that differ, so it adds its own variance: at most ``reach·x − x²`` per
item for a mean change x, if whole groups change together. Power rests on the variance under the
change, not on the one observed without it; otherwise two models that agree on every item would seem
to exclude every difference. An observed gain is part of the observed variance, so it counts once.
Non-inferiority is another question: how often two models that do not differ are shown not to. Its
power rests on the variance at zero loss.

Before a run nothing is known about how two models differ on the items. A planning value takes its
place: the share of items on which they are expected to disagree while nothing is lost or won.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from lm_eval_trust.analysis.score_tests import score_variance
from lm_eval_trust.analysis.statistics import GroupTotals
from lm_eval_trust.gate.paired_test import Contrast

#: How often a change that is called detectable has to be shown.
POWER = 0.975
#: Confidence that the true variance is below the value used: of yes-or-no items, and of values of
#: any size, whose tails may be heavier than the normal ones of the bound.
_BOUND, _BOUND_OF_ANY = 0.9, 0.97
#: Items that may differ in another sample although none did, at 95 % confidence.
_MISSED = 3


@dataclass(frozen=True)
class Design:
    """The items of a test, and how much their differences vary while nothing is lost or won.

    Attributes:
        variance: Variance of the paired mean.
        items: Effective number of items, see :class:`~lm_eval_trust.gate.paired_test.Contrast`.
        groups: Number of groups of items.
        reach: Largest amount by which one item is expected to differ.
        quantiles: Sum of Student's quantiles of the test and of the power.
        score: That of the test, where it takes the variance under the tested mean; otherwise 0.
        fixed: The part of the variance that more items don't make smaller.
    """

    variance: float
    items: float
    groups: int
    reach: float
    quantiles: float
    score: float = 0.0
    fixed: float = 0.0

    @classmethod
    def of(cls, contrast: Contrast, confidence: float, power: float = POWER) -> Design:
        """Take the variance from what was observed.

        An unbiased variance would promise too much in half of the cases. So this is the upper end
        of its 90 % bound for normal differences (97 % for values of any size), with three more
        items that differ, since so many may have been missed (the rule of three, Hanley and
        Lippman-Hand 1983).
        """
        test = contrast.quantile((1 + confidence) / 2)
        # A skewed metric's interval is wider than Student's, and varies more.
        quantiles = contrast.width(confidence) / test * (test + contrast.quantile(power))
        missed = _MISSED * (contrast.reach / contrast.effective_items) ** 2
        return cls(
            contrast.standard_error**2 * _larger(contrast) + missed,
            contrast.effective_items,
            contrast.groups,
            contrast.reach,
            quantiles,
            0.0 if contrast.differences is None else test,
        )

    @classmethod
    def of_halves(
        cls, contrast: Contrast, own: float, whole: float, confidence: float, power: float = POWER
    ) -> Design:
        """Take the variance from an interval's half-width, of which a part is not the items'.

        Args:
            contrast: The items.
            own: Half-width if all else were certain.
            whole: Half-width.
            confidence: That of the interval.
            power: How often a change that is called detectable has to be shown.
        """
        test = contrast.quantile((1 + confidence) / 2)
        fixed = max(0.0, whole**2 - own**2) / test**2
        return cls(
            (own / test) ** 2 * _larger(contrast) + fixed,
            contrast.effective_items,
            contrast.groups,
            0.0,
            test + contrast.quantile(power),
            fixed=fixed,
        )

    def smallest_shown(self, beyond: float = 0.0, held: float = 0.0) -> float:
        """Return the smallest true change that is shown to exceed an amount with this power.

        It solves (x − beyond)² = quantiles² (variance + added / items) for x, where
        added = reach·max(0, x − held) + held² − x²; infinite for a single group.

        Args:
            beyond: The amount.
            held: A change in the same direction that the observed variance includes.
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

    def margin_held(self) -> float:
        """Return the smallest margin within which a loss of zero is shown to be with this power."""
        least = self.quantiles * math.sqrt(self.variance)
        if not self.score or least >= self.reach:
            return least

        def lacking(margin: float) -> float:
            return self._reach(margin) / math.sqrt(self.items) - margin

        return float(optimize.brentq(lacking, least, self.reach)) if lacking(least) > 0 else least

    def groups_to_hold(self, margin: float) -> int | None:
        """Return how many groups like these would show a loss of zero to be within a margin.

        ``None`` if no number would, or there is only one group.
        """
        fixed = self.quantiles**2 * self.fixed
        if not math.isfinite(self.variance) or margin**2 <= fixed:
            return None
        own = self._reach(margin) ** 2 / self.items - fixed
        return max(2, math.ceil(self.groups * own / (margin**2 - fixed)))

    def _reach(self, margin: float) -> float:
        """Return how far below zero the test of a margin reaches, for one item."""
        share = self.variance * self.items
        tested = share
        if self.score:
            # In steps of 1, the variance under a mean of −margin.
            square = self.reach**2
            under = score_variance(margin / self.reach, min(share / square, 1.0), 0.0)
            tested = max(share, square * under)
        return self.score * math.sqrt(tested) + (self.quantiles - self.score) * math.sqrt(share)

    def groups_needed(self, change: float, beyond: float = 0.0) -> int | None:
        """Return how many groups like these would show a change beyond an amount.

        ``None`` if no number would: the change is not beyond it, or there is only one group.
        """
        fixed = self.quantiles**2 * self.fixed
        room = max(0.0, change - beyond) ** 2 - fixed
        if not (room > 0 and math.isfinite(self.variance)):
            return None
        extra = max(0.0, self.reach * change - change**2) / self.items if self.reach else 0.0
        own = self.quantiles**2 * (self.variance + extra) - fixed
        return max(2, math.ceil(self.groups * own / room))


def planned_contrast(groups: Sequence[str], disagreement: float) -> Contrast:
    """Return the expected differences of yes-or-no items, with as many groups won as lost.

    Args:
        groups: Group of each item; items of a group are expected to change together.
        disagreement: Share of the groups on which the two models differ.
    """
    names = list(dict.fromkeys(groups))
    differing = round(len(names) * disagreement)
    change = {name: (-1.0) ** n if n < differing else 0.0 for n, name in enumerate(names)}
    after = np.array([change[group] for group in groups])
    totals = GroupTotals.of(after, groups)
    return Contrast(totals, step=1.0, reach=1.0, differences=totals)


def _larger(contrast: Contrast) -> float:
    """Return by how much the true variance may exceed the observed one."""
    freedom = max(contrast.groups - 1, 1)
    bound = _BOUND if contrast.in_steps else _BOUND_OF_ANY
    return freedom / float(stats.chi2.ppf(1 - bound, freedom))


def _larger_root(square: float, middle: float, constant: float) -> float:
    """Return the larger x with square·x² − middle·x + constant = 0."""
    root = math.sqrt(max(0.0, middle**2 - 4 * square * constant))
    return (middle + root) / (2 * square)

"""Two models compared on the same items: paired differences, tests and power.

Items of one group (the answers to one question, the sentences of one context) stand or fall
together, so groups are what a test exchanges, never single items.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from lm_eval_trust.analysis.statistics import Floats, GroupTotals, Interval, paired, step_of

MCNEMAR = "McNemar"
SIGN_FLIPS = "sign flips by group"
#: Random assignments of signs where there are too many to try all.
FLIPS = 5000
#: Groups up to which all assignments of signs are tried.
_ALL_SIGNS = 12
_TIE = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items.

    Attributes:
        difference: Second minus first, with its interval; see
            :meth:`~lm_eval_trust.analysis.statistics.GroupTotals.interval`.
        p: Two-sided, of the hypothesis that there is no difference.
        test: ``McNemar`` or ``sign flips by group``.
        items: Number of items.
        groups: Number of groups.
    """

    difference: Interval
    p: float
    test: str
    items: int
    groups: int


def compare(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two models on the same items.

    Yes-or-no metrics of independent items take the exact McNemar test (McNemar 1947): under no
    difference, each item that only one of the two gets right is either's with one half. Everything
    else takes the same test of groups, :func:`sign_flip_p`.

    Args:
        before: The first model's value of each item, shape (n,).
        after: The second's, in the same order.
        groups: Group of each item; by default every item is its own group.
        confidence: Confidence of the two-sided interval.

    Raises:
        InputError: Other lengths, no items, or values that are not finite.
    """
    first, second = paired(before, after)
    totals = GroupTotals.of(second - first, groups)
    p, test = p_of(first, second, totals)
    difference = totals.difference_interval(confidence, step=step_of(totals, first, second))
    return Comparison(difference, p, test, len(first), totals.groups)


def p_of(before: Floats, after: Floats, totals: GroupTotals) -> tuple[float, str]:
    """Return the two-sided p of no difference, and the name of the test.

    Args:
        before: The first model's values, shape (n,).
        after: The second's, of the same form.
        totals: Their differences by group.
    """
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    if binary and (totals.sizes == 1).all():
        return mcnemar(int((after > before).sum()), int((before > after).sum())), MCNEMAR
    return sign_flip_p(totals.sums), SIGN_FLIPS


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p of the items that only one of two models gets right."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip_p(sums: npt.ArrayLike) -> float:
    """Return the two-sided p of groups' differences, under which each could as well be reversed.

    If two models do not differ, which of them gave a group's answers makes no difference, so each
    sum could have the other sign (Fisher 1935, section 21; McNemar's test is the case of yes-or-no
    items). The p is the share of signs, of all or of 5,000 drawn ones and the observed one, under
    which the sum of the sums deviates from zero as much as the observed one. With k groups that
    differ no p is below 2 / 2^k.

    Args:
        sums: Sums of each group's differences, shape (groups,).
    """
    values = np.asarray(sums, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    # In order of size, so that neither the order of groups nor the direction changes the draws.
    values = values[np.lexsort((values, np.abs(values)))]
    observed = abs(values.sum())
    limit = observed - _TIE * np.abs(values).sum()
    if len(values) <= _ALL_SIGNS:
        return float((np.abs(_signs(len(values)) @ values) >= limit).mean())
    return float((1 + (np.abs(_signs(len(values)) @ values) >= limit).sum()) / (1 + FLIPS))


@lru_cache(maxsize=4)
def _signs(groups: int) -> Floats:
    """Return all assignments of signs, or drawn ones, shape (assignments, groups)."""
    if groups <= _ALL_SIGNS:
        bits = np.arange(2**groups)[:, None] >> np.arange(groups) & 1
        return np.asarray(2 * bits - 1, dtype=np.float64)
    return random_signs(np.random.default_rng(groups), FLIPS, groups)


def random_signs(random: np.random.Generator, assignments: int, groups: int) -> Floats:
    """Return −1 or 1 for each group, shape (assignments, groups)."""
    bits = random.integers(2, size=(assignments, groups), dtype=np.int8)
    return np.asarray(2 * bits - 1, dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for as many tests, by the step-down method of Holm (1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = running
    return adjusted

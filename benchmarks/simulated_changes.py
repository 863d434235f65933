"""Differences of yes-or-no items of which few change: exact coverage, for simulations.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from lm_eval_trust.analysis.statistics import GroupTotals

HEADER = ("items", "Student's and Wilson's", "now", "median width", "largest")
#: Shares of yes-or-no items that are won and lost.
CHANGES = [
    (won, lost)
    for won in (0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
    for lost in (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2)
    if lost <= won
]


def exact_coverage() -> Iterator[Sequence[object]]:
    """Yield the lowest coverage of all designs without Tango's interval and now, and the widths.

    Coverage is a sum over all outcomes. Widths are relative to those without, over the designs.
    """
    for items in (8, 15, 20, 30, 35, 40, 60, 100):
        covered, widths = np.zeros((2, len(CHANGES))), np.zeros((2, len(CHANGES)))
        for won, lost in itertools.product(range(items + 1), repeat=2):
            counts = (won, lost, items - won - lost)
            chances = np.array(
                [stats.multinomial.pmf(counts, items, (a, b, 1 - a - b)) for a, b in CHANGES]
            )
            if won + lost > items or chances.max() < 1e-7:
                continue
            totals = GroupTotals.of(np.repeat([1.0, -1.0, 0.0], counts))
            sides = totals.interval(step=1.0), totals.difference_interval(step=1.0)
            for i, found in enumerate(sides):
                covered[i] += chances * [found.low <= a - b <= found.high for a, b in CHANGES]
                widths[i] += chances * (found.high - found.low)
        wider = widths[1] / widths[0]
        yield items, *covered.min(axis=1), float(np.median(wider)), float(wider.max())

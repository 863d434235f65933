"""Rows of a column against the plain comparison of two series, and against closed forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lm_eval_trust.analysis.comparison import MCNEMAR, SIGN_FLIPS, compare
from lm_eval_trust.leaderboard.items import Strata, Stratum, Value, averaged
from lm_eval_trust.leaderboard.resampling import compare_rows, standings_of


def strata(values: Sequence[float], groups: Sequence[str] | None = None, first: int = 0) -> Strata:
    of = groups or [f"g{i}" for i in range(first, first + len(values))]
    items = {
        f"t/{first + i:04d}": Value(float(v), g, "", ())
        for i, (v, g) in enumerate(zip(values, of, strict=True))
    }
    return (Stratum(1.0, items),)


@pytest.mark.parametrize("kind", ["binary", "grouped", "real"])
def test_three_rows_at_once_are_what_each_pair_is_alone(kind: str) -> None:
    generator = np.random.default_rng(5)
    rows = generator.random((3, 60))
    series = (rows < 0.5).astype(float) if kind != "real" else rows
    groups = [f"g{i // 3:02d}" for i in range(60)] if kind == "grouped" else None
    names = ("a", "b", "c")
    found = compare_rows(
        {name: strata(values, groups) for name, values in zip(names, series, strict=True)},
        [("a", "b"), ("a", "c"), ("b", "c")],
        confidence=0.9,
    )
    for (first, second), pair in found.items():
        comparison = pair.comparison
        before, after = (series[names.index(name)] for name in (first, second))
        alone = compare(before, after, groups, confidence=0.9)
        assert comparison.test == alone.test == (MCNEMAR if kind == "binary" else SIGN_FLIPS)
        assert (comparison.items, comparison.groups) == (alone.items, alone.groups)
        assert comparison.p == pytest.approx(alone.p, abs=1e-12)
        got, wanted = comparison.difference, alone.difference
        assert got.mean == pytest.approx(wanted.mean)
        assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_only_shared_items_are_compared() -> None:
    found = compare_rows(
        {"a": strata([1, 0, 0, 0]), "b": strata([0, 1, 1, 1], first=2)}, [("a", "b")]
    )
    # Items 2 and 3 are in both: a has 0 and 0, b has 0 and 1.
    comparison = found["a", "b"].comparison
    assert comparison.items == 2
    assert comparison.difference.mean == 0.5


def test_rows_without_a_shared_item_are_not_compared() -> None:
    rows = {"a": strata([1, 0]), "b": strata([1, 0], first=9)}
    assert compare_rows(rows, [("a", "b")]) == {}


def test_a_change_of_all_items_of_one_stratum_counts_by_its_weight() -> None:
    before = averaged([strata([0.2, 0.4, 0.9]), strata([0.5] * 10, first=20)])
    after = averaged([strata([0.5, 0.7, 1.2]), strata([0.5] * 10, first=20)])
    comparison = compare_rows({"a": before, "b": after}, [("a", "b")])["a", "b"].comparison
    # 0.3 on every item of a half: the mean changes by 0.15, and few items are not certain of it.
    found = comparison.difference
    assert found.mean == pytest.approx(0.15)
    assert found.low < 0.0 < 0.15 < found.high
    assert comparison.test == SIGN_FLIPS and comparison.items == 13


def test_few_groups_of_several_strata_are_not_certain() -> None:
    before = averaged([strata([0.2]), strata([0.2, 0.2], first=5)])
    after = averaged([strata([0.7]), strata([0.7, 0.7], first=5)])
    assert compare_rows({"a": before, "b": after}, [("a", "b")])["a", "b"].comparison.p == 2 / 8


def test_strata_are_independent() -> None:
    """Two halves of equal spread: the variance of their mean is half of one's."""
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(2, 400))
    zero = np.zeros(400)
    one = compare_rows({"a": strata(zero), "b": strata(noise[0])}, [("a", "b")])["a", "b"]
    two = compare_rows(
        {
            "a": averaged([strata(zero), strata(zero, first=500)]),
            "b": averaged([strata(noise[0]), strata(noise[1], first=500)]),
        },
        [("a", "b")],
    )["a", "b"]
    widths = [c.comparison.difference.high - c.comparison.difference.low for c in (one, two)]
    assert widths[1] / widths[0] == pytest.approx(2**-0.5, rel=0.1)


def test_rows_that_are_alike_are_seldom_ranked() -> None:
    """Five rows of one truth, over groups of 1 to 9 items; one in twenty boards may rank any."""
    ranked, random = 0, np.random.default_rng(7)
    for _ in range(100):
        sizes = random.integers(1, 10, size=20)
        groups = [f"g{g}" for g in np.repeat(np.arange(20), sizes)]
        rows = {
            name: strata(np.repeat(random.normal(size=20), sizes), groups=groups)
            for name in "abcde"
        }
        found = standings_of(rows, 0.95, higher_is_better=True)
        ranked += any((s.rank_low, s.rank_high) != (1, 5) for s in found.values())
    assert ranked <= 11


def test_ranks_agree_with_the_paired_intervals() -> None:
    random = np.random.default_rng(8)
    rows = {
        name: strata(random.normal(shift, 1, size=30))
        for name, shift in zip("abc", (0, 0.6, 1.2), strict=True)
    }
    found = standings_of(rows, 0.95, higher_is_better=True)
    pairs = compare_rows(rows, [("a", "b"), ("b", "c"), ("a", "c")])
    certain = {pair for pair, one in pairs.items() if one.interval(1 - 0.05 / 3).low > 0}
    beaten = {name: sum(first == name for first, _ in certain) for name in rows}
    # The joint level is a little lower than Bonferroni's.
    assert all(found[name].rank_low - 1 >= beaten[name] for name in rows)
    assert found["c"].rank_high == 1 and not found["a"].may_be_best

"""Verdicts on planted items, in both directions of metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.measured import measurement, rule

from lm_eval_trust.analysis.statistics import proportion_interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.gate.reports import sentence
from lm_eval_trust.gate.verdicts import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    RuleVerdict,
    check_comparable,
    decide,
)


def shares(right: int, items: int, **changed: Any) -> Measurement:
    values = [1.0] * right + [0.0] * (items - right)
    return measurement(values, score=right / items, **changed)


def verdict(
    kind: str, bound: float, before: int, after: int, items: int, **changed: Any
) -> RuleVerdict:
    options = {k: changed.pop(k) for k in ("higher_is_better",) if k in changed}
    return decide(
        rule(kind, bound, **changed),
        shares(after, items, **options),
        shares(before, items, **options),
    )


@pytest.mark.parametrize(
    ("kind", "bound", "before", "after", "outcome"),
    [
        ("min", 0.5, 0, 200, PASSED),
        ("min", 0.51, 0, 200, FAILED),
        ("max", 0.5, 0, 200, PASSED),
        ("max", 0.49, 0, 200, FAILED),
        ("max_drop", 0.0, 300, 300, PASSED),
        ("max_drop", 0.0, 300, 260, FAILED),
        ("max_drop", 0.05, 300, 275, INCONCLUSIVE),
        ("max_drop", 0.2, 300, 260, PASSED),
        ("max_drop", 0.0, 260, 300, PASSED),
        ("min_gain", 0.05, 200, 280, PASSED),
        ("min_gain", 0.05, 200, 230, INCONCLUSIVE),
        ("min_gain", 0.05, 200, 201, FAILED),
        ("non_inferiority", 0.05, 300, 298, PASSED),
        ("non_inferiority", 0.05, 300, 285, INCONCLUSIVE),
        ("non_inferiority", 0.05, 300, 200, FAILED),
        ("min_ratio", 0.9, 300, 299, PASSED),
        ("min_ratio", 0.9, 300, 200, FAILED),
    ],
)
def test_outcomes(kind: str, bound: float, before: int, after: int, outcome: str) -> None:
    found = verdict(kind, bound, before, after, items=400)
    assert found.outcome == outcome
    strict = kind in ("min_gain", "non_inferiority")
    assert found.fails_check == (outcome == FAILED or (outcome == INCONCLUSIVE and strict))


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("max_drop", 0.0), ("min_gain", 0.05), ("non_inferiority", 0.05), ("max_drop", 0.05)],
)
@pytest.mark.parametrize(("before", "after"), [(300, 200), (200, 300), (200, 215), (200, 200)])
def test_a_metric_that_is_better_when_lower_is_the_mirror_image(
    kind: str, bound: float, before: int, after: int
) -> None:
    errors = verdict(kind, bound, 400 - before, 400 - after, items=400, higher_is_better=False)
    rights = verdict(kind, bound, before, after, items=400)
    assert errors.outcome == rights.outcome
    assert errors.change is not None and rights.change is not None
    assert (errors.change.low, errors.change.high) == pytest.approx(
        (-rights.change.high, -rights.change.low)
    )
    assert errors.power is not None and rights.power is not None
    assert errors.power.suffices == rights.power.suffices
    assert errors.power.smallest == pytest.approx(rights.power.smallest)


def test_the_ends_of_a_ratio_are_where_its_test_turns() -> None:
    found = verdict("min_ratio", 0.9, 300, 260, items=400)
    assert found.change is not None
    low, high = found.change.low, found.change.high
    assert found.change.mean == pytest.approx(260 / 300)
    assert low < found.change.mean < high < 1
    assert verdict("min_ratio", high - 1e-6, 300, 260, items=400).outcome != FAILED
    assert verdict("min_ratio", high + 1e-6, 300, 260, items=400).outcome == FAILED


def test_a_rate_that_was_zero_is_tested_by_its_difference() -> None:
    kept = verdict("max_ratio", 1.2, 0, 0, items=400, higher_is_better=False)
    lost = verdict("max_ratio", 1.2, 0, 40, items=400, higher_is_better=False)
    assert (kept.outcome, lost.outcome) == (PASSED, FAILED)
    assert not lost.is_ratio
    assert lost.change is not None and lost.change.mean == pytest.approx(0.1)


def test_perplexities_are_compared_by_their_ratio() -> None:
    words = np.array([10.0, 20.0, 30.0, 40.0])
    noise = np.array([0.02, -0.01, 0.01, -0.02])

    def texts(perplexity: float, noise: Any = 0.0) -> Measurement:
        logs = -words * (math.log(perplexity) + noise)
        return measurement(
            np.stack([logs, words], axis=1).tolist(),
            score=math.exp(-logs.sum() / words.sum()),
            higher_is_better=False,
            aggregation="weighted_perplexity",
        )

    before, after = texts(20.0), texts(30.0, noise)
    found = decide(rule("max_ratio", 1.2), after, before)
    assert found.outcome == FAILED and found.change is not None
    assert found.change.mean == pytest.approx(after.scores["acc"] / 20)
    assert 1.2 < found.change.low < 1.5 < found.change.high
    assert decide(rule("max_ratio", 1.6), after, before).outcome == PASSED
    ceiling = decide(rule("max", 25.0), after, None)
    assert ceiling.outcome == FAILED and ceiling.interval is not None
    assert ceiling.interval.low < ceiling.value < ceiling.interval.high


def test_bits_per_byte_are_compared_in_bits() -> None:
    sizes = [10.0, 20.0, 30.0]

    def texts(bits: float) -> Measurement:
        pairs: list[Any] = [[-bits * size * math.log(2), size] for size in sizes]
        options = {"higher_is_better": False, "aggregation": "bits_per_byte"}
        return measurement(pairs, score=bits, **options)  # type: ignore[arg-type]

    found = decide(rule("max_drop", 0.4), texts(2.5), texts(2.0))
    assert found.change is not None and found.change.mean == pytest.approx(0.5)
    own = decide(rule("max", 3.0), texts(2.5), None).interval
    assert own is not None and own.mean == pytest.approx(2.5)


@pytest.mark.parametrize("losses", [(1.0, 30.0), (-1.0, -30.0)])
def test_perplexities_beyond_all_numbers_are_infinite(losses: tuple[float, float]) -> None:
    def texts(logs: list[float]) -> Measurement:
        pairs = [[10 * log, 10.0] for log in logs]
        options = {"higher_is_better": False, "aggregation": "weighted_perplexity"}
        return measurement(pairs, score=math.exp(-sum(logs) / 2), **options)  # type: ignore[arg-type]

    before, after = texts([-3.0, -3.0]), texts([-3.0 - loss for loss in losses])
    found = decide(rule("max_ratio", 1.5), after, before)
    assert found.outcome == INCONCLUSIVE
    assert found.power is not None and found.power.smallest is None
    steep = texts([-700.0, -3.0])
    assert decide(rule("max", 50.0), steep, None).interval.high == math.inf  # type: ignore[union-attr]


def test_a_ratio_of_values_below_zero_is_refused() -> None:
    measured = measurement([-2.0, -2.1, -1.9] * 10, score=-2.0)
    with pytest.raises(InputError, match="has values below zero"):
        decide(rule("min_ratio", 0.9), measured, measured)


def test_what_is_shown_is_possible() -> None:
    few = [verdict(kind, 0.1, 3, 3, items=5) for kind in ("min_gain", "non_inferiority")]
    assert [each.power.smallest for each in few if each.power] == [None, None]
    some = verdict("min_gain", 0.1, 0, 0, items=100)
    assert some.power is not None and some.power.smallest is not None
    full = verdict("min_gain", 0.1, 90, 90, items=100)
    assert full.power is not None and full.power.smallest is None
    single = decide(rule("min_gain", 0.1), *(measurement([0.5, 3.0], ["a", "a"]),) * 2)
    assert single.power is not None and single.power.smallest is None


def test_items_that_would_show_a_margin_are_told() -> None:
    found = verdict("non_inferiority", 0.05, 30, 30, items=60)
    assert found.outcome == INCONCLUSIVE and found.power is not None
    needed = found.power.needed
    assert needed is not None and needed > 60
    enough = verdict("non_inferiority", 0.05, needed // 2, needed // 2, items=needed)
    assert enough.outcome == PASSED and enough.power is not None and enough.power.suffices


def test_too_few_items_are_told_with_the_number_that_is_needed() -> None:
    found = verdict("max_drop", 0.05, 15, 15, items=20)
    assert found.outcome == INCONCLUSIVE and found.power is not None
    assert found.power.wanted == pytest.approx(0.1)
    assert found.power.needed is not None and found.power.needed > 200
    asked = verdict("max_drop", 0.05, 15, 15, items=20, detect=0.7)
    assert asked.outcome == PASSED
    assert verdict("max_drop", 0.0, 2, 2, items=20).power is not None
    assert verdict("max_drop", 0.0, 2, 2, items=20).power.smallest is None  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "bound"), [("max_drop", 0.0), ("min_ratio", 1.0)])
def test_values_above_1_do_not_make_few_items_suffice(kind: str, bound: float) -> None:
    """As XSTest's score has them: each kind of prompt weighs by how rare it is."""
    before, after = (measurement(v, score=float(np.mean(v))) for v in ([1.25, 0.8], [0.0, 0.8]))
    found = decide(rule(kind, bound), after, before)
    assert found.outcome == INCONCLUSIVE and found.power
    assert found.power.smallest is None and not found.power.suffices


def test_a_rise_without_a_bound_passes_only_what_detect_asks_for() -> None:
    values = [2.0, 3.0, 2.5, 2.0] * 10
    same = measurement(values, score=float(np.mean(values)), higher_is_better=False)
    worse = measurement([v + (i == 3) for i, v in enumerate(values)], higher_is_better=False)
    asked = decide(rule("max_drop", 0.0), worse, same)
    assert asked.outcome == INCONCLUSIVE and "`detect` says which change" in sentence(asked)
    assert decide(rule("max_drop", 0.0, detect=1.0), worse, same).outcome == PASSED


@pytest.mark.parametrize("bound", [0.8, 1.0, 1.0001])
def test_a_ratio_and_its_interval_agree_at_any_bound(bound: float) -> None:
    half = measurement([0.5] * 20, score=0.5)
    found = decide(rule("min_ratio", bound), half, measurement([1.0] * 20, score=1.0))
    assert found.change and found.change.low < 0.5 < found.change.high < 0.8
    assert found.outcome == FAILED
    up = decide(rule("min_ratio", bound), measurement([1.0] * 3), measurement([0.7] * 3))
    assert up.change and up.change.low <= up.change.mean <= up.change.high


def test_few_small_changes_do_not_show_that_a_ratio_holds() -> None:
    """Of 30 graded items three lose a little, where one in fifty loses most of its value."""
    random, shown = np.random.default_rng(0), 0
    for _ in range(100):
        before = random.uniform(0.7, 0.9, 30)
        drawn = random.random(30)
        after = before - np.where(drawn < 0.02, 0.6, np.where(drawn < 0.12, 0.02, 0.0))
        sides = [measurement(v.tolist(), score=float(v.mean())) for v in (after, before)]
        bound = 1 - (0.02 * 0.6 + 0.1 * 0.02) / 0.8
        found = decide(rule("min_ratio", bound), *sides)
        shown += found.outcome == PASSED
    assert shown <= 7


@pytest.mark.parametrize("values", [[0.5] * 30, [0.25] + [0.0] * 29, [1.0] * 29 + [0.5]])
def test_own_intervals_are_the_engines(values: list[float]) -> None:
    found = decide(rule("min", 0.2), measurement(values, score=float(np.mean(values))), None)
    assert found.interval is not None
    low, high = proportion_interval(values)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert high - low > 0.1


def test_own_intervals_are_never_certain() -> None:
    all_right = decide(rule("min", 0.9), shares(50, 50), None)
    assert all_right.interval is not None
    assert (all_right.interval.mean, all_right.interval.high) == (1.0, 1.0)
    assert 0.9 < all_right.interval.low < 0.95
    none = decide(rule("max", 0.1), shares(0, 50), None)
    assert none.interval is not None and none.interval.low == 0.0
    assert none.interval.high == pytest.approx(1 - all_right.interval.low)


def test_items_without_a_value_are_left_out_of_both() -> None:
    before = measurement([1.0, None, 1.0, 0.0] * 50, score=2 / 3)
    after = measurement([1.0, 1.0, None, 0.0] * 50, score=2 / 3)
    found = decide(rule("max_drop", 0.1), after, before)
    assert found.items == 100 and found.change is not None and found.change.mean == 0


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("max_drop", {"aggregation": "f1_score"}, "not a mean over items"),
        ("max_drop", {"aggregation": "perplexity"}, "compared by its ratio; use max_ratio"),
        ("max_ratio", {}, "better when higher; its ratio is held by min_ratio"),
        ("min_ratio", {"higher_is_better": False}, "better when lower.*max_ratio"),
        ("max_drop", {"higher_is_better": None}, "does not declare whether higher acc is better"),
        ("max_drop", {"metric": "akk"}, "Unknown metric of made_up 'akk'; known are acc"),
    ],
)
def test_rules_that_do_not_fit_the_metric(kind: str, changed: dict[str, Any], message: str) -> None:
    metric = changed.pop("metric", "acc")
    measured = shares(3, 5, **changed)
    with pytest.raises(InputError, match=message):
        decide(rule(kind, 1.0, metric=metric), measured, measured)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("kind", ["max_drop", "min_gain", "non_inferiority", "max_ratio"])
def test_a_stereotype_score_that_leaves_its_ideal_is_not_accepted(kind: str) -> None:
    """Of StereoSet's ``ss``, 50 is ideal: neither more nor less is better."""
    index = TaskIndex({})
    task = index.load(["trust_stereoset_icat"]).tasks["trust_stereoset_icat"]
    direction = task.higher_is_better()["ss"]
    aggregation = task.aggregation()["ss"].__name__
    before, after = (
        shares(right, 4, higher_is_better=direction, aggregation=aggregation) for right in (2, 0)
    )
    with pytest.raises(InputError, match=r"ideal may lie in between\. Hold it by min"):
        decide(rule(kind, 1.0), after, before)


def test_metrics_of_several_filters_are_told_apart() -> None:
    names = ("acc,strict", "acc,flexible")
    measured = shares(1, 2, scores=dict.fromkeys(names, 0.5))
    assert measured.metric("acc,strict") == "acc,strict"
    with pytest.raises(InputError, match="write acc,strict or acc,flexible"):
        measured.metric("acc")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": "2"}, "has version 2; the other is 1"),
        ({"meaning": {"data_fingerprint": "e"}}, "data_fingerprint e; the other .* d"),
        ({"meaning": {"truth_judge_fingerprint": "j"}}, "data_fingerprint None"),
        ({"ids": ["item00000", "other"]}, "other items: 1 of 2 are gone and 1 are new"),
    ],
)
def test_measurements_of_other_things_are_not_compared(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_comparable(shares(1, 2), shares(1, 2, **changed))


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("kind", ["min", "max", "max_drop", "min_gain", "non_inferiority"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("side", ["after", "before"])
def test_an_item_that_is_not_finite_fails_every_rule(kind: str, bad: float, side: str) -> None:
    good = shares(20, 20)
    broken = measurement([1.0] * 19 + [bad], score=1.0)
    after, before = (broken, good) if side == "after" else (good, broken)
    found = decide(rule(kind, 0.0 if kind != "max" else 1.0), after, before)
    assert (found.outcome, found.nonfinite, found.fails_check) == (FAILED, 1, True)
    assert "1 of 20 items of made_up have a log-likelihood or score that is not" in sentence(found)


def test_log_likelihoods_that_are_not_finite_fail_though_all_scores_are() -> None:
    found = decide(rule("min", 0.5), shares(20, 20, nonfinite=3), None)
    assert (found.outcome, found.nonfinite) == (FAILED, 3)


def test_a_score_that_is_not_finite_fails() -> None:
    found = decide(rule("max", 9.0), measurement([1.0], score=INF), None)
    assert found.outcome == FAILED and "is inf" in sentence(found)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"unparsed": 1.0}, "no answer could be read, or no item has a value"),
        ({"unparsed": 0.5}, "its items give none"),
    ],
)
def test_a_score_of_nothing_fails_and_says_why(others: dict[str, float], why: str) -> None:
    found = measurement([None, None], score=NAN)
    found.scores.update(others)
    for before in (None, shares(2, 2)):
        verdict = decide(rule("min" if before is None else "max_drop", 0.5), found, before)
        assert verdict.outcome == FAILED
        assert f"made_up has no acc: {why}" in sentence(verdict)


def test_a_gap_is_no_broken_item() -> None:
    gaps = measurement([1.0, None, 1.0], score=1.0)
    assert decide(rule("min", 0.5), gaps, None).outcome == PASSED
    unread = measurement([1.0, NAN, 1.0], score=1.0, aggregation="nanmean")
    assert decide(rule("min", 0.5), unread, None).outcome == PASSED


@pytest.mark.parametrize(("kind", "bound"), [("max_drop", 0.1), ("min", 0.2)])
def test_few_groups_are_told(kind: str, bound: float) -> None:
    def told(groups: int) -> str:
        sides = (shares(n, 40, groups=[str(i * groups // 40) for i in range(40)]) for n in (20, 22))
        return sentence(decide(rule(kind, bound), *sides))

    assert "with 5 groups of items, fewer than 8, the interval may be too short" in told(5)
    assert "a single group of items has no interval" in told(1)
    assert "fewer than" not in told(8) and not told(8).endswith("; ")

"""Correcting for a judge's errors: formulas, planted judges, coverage, and what is refused."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lm_eval.api.instance import Instance
from support.harness import Scripted, evaluate

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.agreement import quality
from lm_eval_trust.judges.calibration import CalibrationSpec, Labelled, calibrate, labelled_answers
from lm_eval_trust.judges.calibration_store import store_calibration
from lm_eval_trust.judges.correction import (
    ErrorRates,
    Rate,
    corrected_difference,
    corrected_share,
    rates_of,
)
from lm_eval_trust.judges.interface import Verdict, judge_fingerprint
from lm_eval_trust.judges.reference import ReferenceJudge

Ints = npt.NDArray[np.int64]
MANY = 2_000_000


def rates(
    sensitivity: float, specificity: float, texts: float = MANY, correlation: float = 0.0
) -> ErrorRates:
    """Rates from independent texts, half of each label."""
    sides = (Rate(share, texts / 2, texts / 2) for share in (sensitivity, specificity))
    return ErrorRates(*sides, correlation)


def verdicts(random: np.random.Generator, labels: Ints, right: tuple[float, float]) -> Ints:
    """Return what a planted judge says, that is right on labels 1 and 0 so often."""
    sides = np.where(labels == 1, *right)
    return np.where(random.random(len(labels)) < sides, labels, 1 - labels)


def measured(labels: Ints, said: Ints, groups: list[str] | None = None) -> ErrorRates:
    spoken = [Verdict(bool(one), None) for one in said]
    named = groups or [str(i) for i in range(len(labels))]
    return ErrorRates.of(quality(labels, spoken, named).as_dict())


def test_the_estimate_is_rogan_and_gladens() -> None:
    """0.34 = 0.9 · 0.2 + 0.2 · 0.8."""
    found = corrected_share([1] * 34 + [0] * 66, rates(0.9, 0.8))
    assert found.mean == pytest.approx(0.2)
    turned = corrected_share([0] * 34 + [1] * 66, rates(0.9, 0.8).reversed)
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (1 - found.mean, 1 - found.high, 1 - found.low)
    )
    apart = corrected_difference([0] * 100, [1] * 14 + [0] * 86, rates(0.9, 0.8))
    assert apart.mean == pytest.approx(0.14 / 0.7)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_many_texts_give_the_delta_methods_interval(share: float) -> None:
    """With many texts of either kind the variance is that of a ratio, by its derivatives."""
    right, texts, items = (0.85, 0.7), 4000, 5000
    counted = right[0] * share + (1 - right[1]) * (1 - share)
    accepted = np.arange(items) < round(counted * items)
    found = corrected_share(accepted.astype(float), rates(*right, texts))
    parts = (
        counted * (1 - counted) / items,
        share**2 * right[0] * (1 - right[0]) / (texts / 2),
        (1 - share) ** 2 * right[1] * (1 - right[1]) / (texts / 2),
    )
    half = 1.96 * math.sqrt(sum(parts)) / (sum(right) - 1)
    assert found.mean == pytest.approx(share, abs=1e-3)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.02)


def test_the_ends_are_the_last_shares_that_explain_what_was_counted() -> None:
    """By brute force: shares at which zero lies in the interval of what is left unexplained."""
    of = rates(0.9, 0.75, 60)
    counted = Interval(0.4, 0.31, 0.5)
    found = of.corrected(counted, 0.95)
    positive, negative = (rate.interval(0.95) for rate in (of.sensitivity, of.specificity))
    held = []
    for share in np.linspace(0, 1, 20_001):
        left = 0.4 - share * 0.9 - (1 - share) * 0.25
        down = math.hypot(0.09, share * (positive.high - 0.9), (1 - share) * (0.75 - negative.low))
        up = math.hypot(0.1, share * (0.9 - positive.low), (1 - share) * (negative.high - 0.75))
        if left - down <= 0 <= left + up:
            held.append(share)
    assert (found.low, found.high) == pytest.approx((held[0], held[-1]), abs=1e-4)


def test_a_perfect_judge_of_many_texts_changes_nothing() -> None:
    values, groups = [1.0, 0.0, 1.0, 1.0] * 20, [str(i // 2) for i in range(80)]
    found = corrected_share(values, rates(1.0, 1.0), groups)
    from lm_eval_trust.analysis.statistics import proportion_interval

    assert found.mean == 0.75
    assert (found.low, found.high) == pytest.approx(proportion_interval(values, groups), abs=1e-4)


def test_correlated_errors_make_the_interval_wider_never_shorter() -> None:
    values = [1] * 40 + [0] * 60
    plain, against, along = (
        corrected_share(values, rates(0.8, 0.8, 100, c)) for c in (0.0, -0.8, 0.8)
    )
    assert against.high - against.low > 1.05 * (plain.high - plain.low)
    assert along == plain
    before, after = [0] * 100, [1] * 30 + [0] * 70
    apart, together = (
        corrected_difference(before, after, rates(0.8, 0.8, 100, c)) for c in (0.0, 0.8)
    )
    assert together.high - together.low > 1.05 * (apart.high - apart.low)


def test_texts_without_a_verdict_are_not_taken_for_rejected_ones() -> None:
    """Of 100 texts 20 have no verdict; the judge's false alarms come from the other 80 alone."""
    accepted = [1] * 40 + [0] * 60
    found = corrected_share(accepted, rates(0.9, 0.8), judged=[1] * 80 + [0] * 20)
    assert found.mean == pytest.approx((0.4 - 0.2 * 0.8) / 0.7)


def test_texts_that_count_without_a_judge_keep_their_score() -> None:
    """Thirty of 100 texts are empty and so not toxic; the judge clears 40 of the others."""
    cleared = [1] * 70 + [0] * 30
    judged = [0] * 30 + [1] * 70
    found = corrected_share(cleared, rates(0.9, 0.8), judged=judged)
    assert found.mean == pytest.approx(0.3 + (0.4 - 0.2 * 0.7) / 0.7)
    assert 0.3 <= found.low < found.mean < found.high <= 1.0
    toxic = corrected_share([1 - each for each in cleared], rates(0.8, 0.9), judged=judged)
    ends = (toxic.mean, toxic.low, toxic.high)
    assert ends == pytest.approx((1 - found.mean, 1 - found.high, 1 - found.low), abs=1e-9)


@pytest.mark.parametrize("empty", [0.1, 0.3, 0.6])
def test_empty_answers_are_no_false_alarms(empty: float) -> None:
    random, held = np.random.default_rng(3), 0
    for _ in range(200):
        judged = random.random(400) >= empty
        true = (random.random(400) < 0.5) & judged
        said = (random.random(400) < np.where(true, 0.85, 0.25)) & judged
        found = corrected_share(said, rates(0.85, 0.75, 40_000), judged=judged)
        held += found.low <= 0.5 * (1 - empty) <= found.high
    assert held >= 182  # Of 200 at 0.95: fewer has a probability below 0.01.


def test_a_difference_leaves_out_texts_without_a_verdict() -> None:
    before, after = [1] * 80 + [0] * 20, [1] * 40 + [0] * 60
    judged = [1] * 70 + [0] * 30
    found = corrected_difference(before, after, rates(0.9, 0.8), judged_after=judged)
    expected = (0.4 - 0.2 * 0.7) / 0.7 - (0.8 - 0.2) / 0.7
    assert found.mean == pytest.approx(expected)
    apart = corrected_difference(
        before, after, rates(0.9, 0.8), rates_after=rates(0.9, 0.8), judged_after=judged
    )
    assert apart.mean == pytest.approx(expected)


def test_an_estimate_beyond_the_border_is_clipped_with_its_interval() -> None:
    found = corrected_share([0] * 95 + [1] * 5, rates(0.9, 0.92, 200))
    assert found.mean == found.low == 0.0 < found.high < 0.15


def test_a_share_that_no_texts_give_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"A share or difference of 0\.050.*errs here otherwise.*raw score"
    ):
        corrected_share([0] * 95 + [1] * 5, rates(0.9, 0.7, 400))
    with pytest.raises(InputError, match=r"A share or difference of 0\.9.*errs here otherwise"):
        corrected_difference([0] * 400, [1] * 380 + [0] * 20, rates(0.8, 0.8, 400))


def test_one_group_has_an_estimate_without_an_interval() -> None:
    found = corrected_share([1, 0, 0], rates(0.9, 0.9), ["one"] * 3)
    assert found.mean == pytest.approx((1 / 3 - 0.1) / 0.8)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        (((0.5, 50, 50), (0.5, 50, 50)), "no better than chance.*0.500.*Choose another judge"),
        (((0.3, 50, 50), (0.6, 50, 50)), "no better than chance"),
        (((0.9, 20, 4), (0.9, 50, 50)), "labelled 1 in 4 groups; at least 5"),
        (((0.9, 20, 20), (0.9, 9, 2)), "labelled 0 in 2 groups.*judge calibrate"),
    ],
)
def test_rates_that_correct_nothing_are_refused(sides: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ErrorRates(*(Rate(*side) for side in sides))


def test_calibrations_that_lack_what_is_needed_are_refused() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    figures = quality(
        labels,
        [Verdict(bool(v), None) for v in verdicts(random, labels, (0.9, 0.9))],
        [str(i) for i in range(200)],
    ).as_dict()
    assert ErrorRates.of(figures).informedness == pytest.approx(0.8, abs=0.1)
    with pytest.raises(InputError, match=r"not calibrated.*judge calibrate"):
        ErrorRates.of(None)
    for name in ("specificity", "positive_items", "negative_groups", "correlation"):
        with pytest.raises(InputError, match=f"lacks {name}, as those of earlier releases.*again"):
            ErrorRates.of({key: value for key, value in figures.items() if key != name})
    one_label = quality(np.ones(30, dtype=np.int64), [Verdict(True, None)] * 30, list("abcdef") * 5)
    with pytest.raises(InputError, match="labelled 0 in 0 groups"):
        ErrorRates.of(one_label.as_dict())


def test_the_correlation_is_that_of_the_groups_errors() -> None:
    """Every group has a true and a false text; the judge says yes to both, or no to both."""
    labels = np.tile([1, 0], 40)
    said = np.repeat(np.arange(40) % 2, 2)
    groups = [str(i // 2) for i in range(80)]
    spoken = [Verdict(bool(one), None) for one in said]
    assert quality(labels, spoken, groups).correlation == pytest.approx(-1.0)
    assert quality(labels, spoken, [str(i) for i in range(80)]).correlation == 0.0


DESIGNS: list[tuple[float, tuple[float, float], int, int, int]] = [
    (0.02, (0.7, 0.95), 60, 100, 1),
    (0.3, (0.9, 0.9), 40, 400, 1),
    (0.9, (0.8, 0.7), 120, 120, 4),
]


@pytest.mark.parametrize(("share", "right", "texts", "items", "size"), DESIGNS)
def test_intervals_hold_the_truth(
    share: float, right: tuple[float, float], texts: int, items: int, size: int
) -> None:
    random, held = np.random.default_rng(1), []
    for _ in range(80):
        labels = np.arange(texts) % 2
        places = [str(i // size) for i in range(texts)]
        of = measured(labels, verdicts(random, labels, right), places)
        own = np.repeat(random.random(items // size) < share, size).astype(np.int64)
        after = np.where(random.random(items) < 0.5, own, 0)
        groups = [str(i // size) for i in range(items)]
        one = corrected_share(verdicts(random, own, right), of, groups)
        sides = (verdicts(random, labels, right) for labels in (own, after))
        two = corrected_difference(*sides, of, groups)
        held.append((one.low <= share <= one.high, two.low <= -share / 2 <= two.high))
    assert np.mean(held, axis=0).min() >= 0.9


def test_rates_of_its_own_for_either_side() -> None:
    """Of steered texts the judge misses half; with one rate for all a gain looks like a loss."""
    random = np.random.default_rng(2)
    before = (random.random(2000) < 0.5).astype(np.int64)
    after = np.where(random.random(2000) < 0.2, 1, before)
    plain, steered = (0.9, 0.9), (0.5, 0.95)
    said = verdicts(random, before, plain), verdicts(random, after, steered)
    labels = np.arange(600) % 2
    of_plain, of_steered = (
        measured(labels, verdicts(random, labels, right)) for right in (plain, steered)
    )
    gain = float((after - before).mean())
    same = corrected_difference(*said, of_plain)
    own = corrected_difference(*said, of_plain, rates_after=of_steered)
    assert same.high < 0 < gain
    assert own.low <= gain <= own.high and own.low > -0.1


def recovered(data: Labelled[Any], right: tuple[float, float]) -> tuple[Interval, float, float]:
    """Calibrate a planted judge on one half of labelled texts, and correct its share of the other.

    Returns:
        The corrected share, the raw and the true one.
    """
    said = verdicts(np.random.default_rng(3), data.labels, right)
    order = {group: i for i, group in enumerate(dict.fromkeys(data.groups))}
    half = np.array([order[group] % 2 == 0 for group in data.groups])
    groups = np.array(data.groups)
    of = measured(data.labels[half], said[half], groups[half].tolist())
    found = corrected_share(said[~half], of, groups[~half].tolist())
    return found, float(said[~half].mean()), float(data.labels[~half].mean())


def test_a_planted_judge_of_the_worlds_answers_gives_back_the_true_share() -> None:
    found, raw, truth = recovered(labelled_answers("mini"), (0.75, 0.7))
    assert found.low <= truth <= found.high and abs(found.mean - truth) < abs(raw - truth)


@pytest.mark.data
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("right", [(0.8, 0.7), (0.65, 0.95)])
def test_a_planted_judge_of_real_answers_gives_back_the_true_share(
    right: tuple[float, float],
) -> None:
    found, raw, truth = recovered(labelled_answers(), right)
    assert found.low <= truth <= found.high
    assert found.mean == pytest.approx(truth, abs=0.04)
    assert abs(raw - truth) > 0.05 or right[1] > 0.9


# What results hold ------------------------------------------------------------------------------

TASK = "trust_truthfulqa_mini"
JUDGE = {"mini_truth_judge": "reference"}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))


def two_thirds_right(request: Instance) -> str:
    wrong = request.doc_id % 3 == 0
    return f"A: {request.doc['incorrect_answers'][0] if wrong else request.doc['best_answer']}"


def keep(figures: dict[str, Any]) -> None:
    store_calibration("mini_truth_judge", judge_fingerprint(ReferenceJudge()), "x", figures)


def figures_of(right: tuple[float, float], texts: int = 400) -> dict[str, Any]:
    """Figures of a judge that is right so often on the texts of either label."""
    labels = np.arange(texts) % 2
    places = np.arange(texts) // 2 / (texts / 2)
    wrong = np.where(labels == 1, places >= right[0], places >= right[1])
    said = [
        Verdict(bool(label) != bool(flip), None) for label, flip in zip(labels, wrong, strict=True)
    ]
    measured = quality(labels, said, [str(i) for i in range(texts)])
    return {"data": "planted texts", **measured.as_dict()}


def test_results_hold_the_corrected_score_beside_the_raw_one() -> None:
    keep(figures_of((0.95, 0.9)))
    found = evaluate(Scripted(two_thirds_right), [TASK], limit=60, **JUDGE)
    scores = found["results"][TASK]
    accepted = [sample["truth"] for sample in found["samples"][TASK]]
    groups = [sample["doc"]["group_id"] for sample in found["samples"][TASK]]
    expected = corrected_share(accepted, rates_of(figures_of((0.95, 0.9)), "accepted"), groups)
    told = [scores[f"truth_corrected{end},none"] for end in ("", "_low", "_high")]
    assert told == pytest.approx([expected.mean, expected.low, expected.high])
    assert told[1] < told[0] < told[2] and scores["truth,none"] == np.mean(accepted)
    assert not any("info_corrected" in name or "score_corrected" in name for name in scores)


def test_without_a_calibration_there_is_no_corrected_score() -> None:
    found = evaluate(Scripted(two_thirds_right), [TASK], limit=10, **JUDGE)
    assert not any("_corrected" in name for name in found["results"][TASK])


def test_a_calibration_that_cannot_correct_is_told(caplog: pytest.LogCaptureFixture) -> None:
    keep({k: v for k, v in figures_of((0.9, 0.9)).items() if k != "correlation"})
    with caplog.at_level(logging.WARNING):
        found = evaluate(Scripted(two_thirds_right), [TASK], limit=10, **JUDGE)
    assert not any("_corrected" in name for name in found["results"][TASK])
    assert f"Scores of {TASK} are not corrected. The judge's calibration lacks" in caplog.text


def test_a_calibration_that_does_not_fit_leaves_no_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep(figures_of((0.5, 1.0), 4000))
    with caplog.at_level(logging.WARNING):
        found = evaluate(
            Scripted(lambda r: f"A: {r.doc['best_answer']}"), [TASK], limit=60, **JUDGE
        )
    assert found["results"][TASK]["truth,none"] == 1.0
    assert math.isnan(found["results"][TASK]["truth_corrected,none"])
    assert "errs here otherwise" in caplog.text


def test_a_share_of_rejected_texts_is_the_complement() -> None:
    calibrate(CalibrationSpec(toxicity="world", source="mini"))
    found = evaluate(Scripted(lambda _: "they are kind"), ["trust_toxigen_mini"], limit=30)
    scores = found["results"]["trust_toxigen_mini"]
    assert scores["trust_score_corrected,none"] == 1 - scores["toxic_ratio_corrected,none"]
    low = 1 - scores["toxic_ratio_corrected_high,none"]
    assert scores["trust_score_corrected_low,none"] == pytest.approx(low)

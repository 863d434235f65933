"""Rules on judged scores without the judge's errors, beside the same rules with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.measured import measurement, rule

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate.judge_correction import JudgeCorrection, correction_of
from lm_eval_trust.gate.reports import sentence
from lm_eval_trust.gate.verdicts import FAILED, INCONCLUSIVE, PASSED, RuleVerdict, decide
from lm_eval_trust.judges.calibration import CalibrationSpec, calibrate
from lm_eval_trust.judges.correction import ErrorRates, Rate, corrected_difference, corrected_share
from lm_eval_trust.judges.registry import HARM, REFUSAL, TOXICITY

WriteCheck = Callable[..., Path]
Bools = npt.NDArray[np.bool_]
TRUTH, TEXT = "trust_truthfulqa_mini", "trust_world_text_mini"


def correction(sensitivity: float, specificity: float, texts: int = 2000) -> JudgeCorrection:
    sides = (Rate(share, texts / 2, texts / 2) for share in (sensitivity, specificity))
    rates = ErrorRates(*sides)
    return JudgeCorrection(rates, rates)


def judged(values: Any, unparsed: Any = None, **changed: Any) -> Measurement:
    numbers = [float(value) for value in values]
    none = [0.0] * len(numbers) if unparsed is None else list(map(float, unparsed))
    found = measurement(numbers, score=float(np.mean(numbers)), **changed)
    return replace(found, values={**found.values, "judged": [1.0 - each for each in none]})


def first(number: int, items: int) -> Bools:
    """The first so many of the items."""
    found: Bools = np.arange(items) < number
    return found


def both(
    kind: str, bound: float, before: int, after: int, items: int = 4000, **changed: Any
) -> tuple[RuleVerdict, RuleVerdict]:
    """Verdicts on shares that a judge counted, without and with the correction."""
    sides = [judged(first(number, items)) for number in (after, before)]
    of = rule(kind, bound, **changed)
    return decide(of, *sides), decide(of, *sides, correction(0.8, 0.8))


@pytest.mark.parametrize(
    ("kind", "bound", "before", "after", "raw", "corrected"),
    [
        # What the judge counts is 0.6 of the true change, and 0.2 of no true text.
        ("max_drop", 0.05, 2400, 2240, PASSED, FAILED),
        ("max_drop", 0.05, 2400, 2390, PASSED, PASSED),
        ("min_gain", 0.05, 2000, 2160, FAILED, PASSED),
        ("min_gain", 0.05, 2000, 2004, FAILED, FAILED),
        ("non_inferiority", 0.05, 2400, 2240, PASSED, FAILED),
        ("non_inferiority", 0.05, 2400, 2396, PASSED, PASSED),
        ("min_ratio", 0.9, 2400, 2190, PASSED, FAILED),
        ("min_ratio", 0.9, 2400, 2390, PASSED, PASSED),
        ("min", 0.6, 0, 2280, FAILED, PASSED),
        ("max", 0.3, 0, 1360, FAILED, PASSED),
    ],
)
def test_a_rule_with_and_without_the_correction(
    kind: str, bound: float, before: int, after: int, raw: str, corrected: str
) -> None:
    plain, without_errors = both(kind, bound, before, after)
    assert (plain.outcome, without_errors.outcome) == (raw, corrected)
    assert plain.raw is None
    assert without_errors.value == pytest.approx((after / 4000 - 0.2) / 0.6)


def test_the_change_is_the_corrected_one() -> None:
    plain, found = both("max_drop", 0.05, 2400, 2240)
    assert plain.change and found.change
    rates = correction(0.8, 0.8).rates
    wanted = corrected_difference(
        first(2400, 4000).astype(float), first(2240, 4000).astype(float), rates
    )
    assert found.change.mean == pytest.approx(plain.change.mean / 0.6) == wanted.mean
    # The gate's own interval may be wider than the engine's, never narrower.
    assert wanted.low - 0.003 < found.change.low <= wanted.low + 1e-9
    share = corrected_share(first(2240, 4000).astype(float), rates)
    assert found.value == pytest.approx(share.mean)
    assert found.raw == (0.56, 0.6)
    told = sentence(found)
    assert (
        "acc is 0.6, 0.6667 unsteered, corrected for the judge's errors (it counted 0.56 and"
        in (told)
    )
    assert "difference -0.06667 [" in told


def test_a_metric_that_is_better_when_lower_is_the_mirror_image() -> None:
    items = 4000
    for kind, bound in (("max_drop", 0.05), ("min_gain", 0.02), ("non_inferiority", 0.08)):
        up = [judged(first(n, items)) for n in (2240, 2400)]
        down = [judged(~first(n, items), higher_is_better=False) for n in (2240, 2400)]
        of, turned = correction(0.9, 0.7), correction(0.7, 0.9)
        one, other = decide(rule(kind, bound), *up, of), decide(rule(kind, bound), *down, turned)
        assert one.outcome == other.outcome and one.change and other.change and one.power
        assert one.change.mean == pytest.approx(-other.change.mean)
        assert one.change.low == pytest.approx(-other.change.high)
        assert other.power and other.power.smallest == pytest.approx(one.power.smallest)


def test_a_ratio_is_that_of_the_corrected_shares() -> None:
    _, found = both("min_ratio", 0.9, 2400, 2240)
    assert found.is_ratio and found.change
    assert found.change.mean == pytest.approx(0.6 / (0.4 / 0.6))
    assert 0.85 < found.change.low < 0.9 < found.change.high < 0.95
    sides = [judged(~first(n, 4000), higher_is_better=False) for n in (2240, 2400)]
    of_errors = decide(rule("max_ratio", 1.1), *sides, correction(0.8, 0.8))
    assert of_errors.change and of_errors.change.mean == pytest.approx(0.4 / (1 - 0.4 / 0.6))
    assert of_errors.outcome == FAILED


def test_steered_texts_have_rates_of_their_own() -> None:
    """The judge misses more of what is true in steered texts, so that a gain looks like a loss."""
    plain, steered = correction(0.9, 0.9).rates, correction(0.6, 0.9).rates
    of = JudgeCorrection(steered, plain)
    # 0.5 = 0.9 · 0.5 + 0.1 · 0.5, and 0.45 = 0.6 · 0.7 + 0.1 · 0.3.
    sides = [judged(first(n, 4000)) for n in (1800, 2000)]
    found = decide(rule("min_gain", 0.1), *sides, of)
    assert (found.value, found.reference) == pytest.approx((0.7, 0.5))
    assert found.outcome == PASSED and found.change
    assert found.change.mean == pytest.approx(0.2)
    # A baseline is of the steered model, with its rates.
    baseline = decide(rule("min_gain", 0.1, against="baseline"), *sides, of)
    assert baseline.outcome == FAILED
    by_ratio = decide(rule("min_ratio", 0.9), *sides, of)
    assert by_ratio.outcome == PASSED and by_ratio.change
    assert by_ratio.change.mean == pytest.approx(1.4)
    assert by_ratio.change.low < 1.4 < by_ratio.change.high


def test_a_small_calibration_says_less() -> None:
    of, sides = rule("max_drop", 0.05), [judged(first(n, 4000)) for n in (2240, 2400)]
    found = decide(of, *sides, correction(0.8, 0.8, texts=40))
    assert found.outcome == INCONCLUSIVE and found.power and not found.power.suffices


def test_items_without_a_verdict_are_not_false_alarms() -> None:
    unparsed = ~first(3200, 4000)
    after = judged(first(1600, 4000), unparsed)
    found = decide(rule("min", 0.1), after, None, correction(0.9, 0.8))
    assert found.value == pytest.approx((0.4 - 0.2 * 0.8) / 0.7)
    lacking = measurement([1.0, 0.0] * 50, score=0.5)
    with pytest.raises(InputError, match=r"lacks judged.*--update-baseline"):
        decide(rule("min", 0.1), lacking, None, correction(0.9, 0.8))


def test_a_calibration_that_does_not_fit_is_refused() -> None:
    sides = [judged(first(n, 1000)) for n in (20, 30)]
    with pytest.raises(InputError, match="errs here otherwise"):
        decide(rule("max_drop", 0.05), *sides, correction(0.8, 0.8))


def planted(
    random: np.random.Generator, drop: float, items: int = 500, texts: int = 400
) -> tuple[Measurement, Measurement, JudgeCorrection]:
    """Two models' verdicts by a judge that is right on 0.85, and the judge's calibration."""
    before = random.random(items) < 0.6
    moved = random.random(items)
    after = np.where(before, moved >= (0.05 + drop) / 0.6, moved < 0.05 / 0.4)
    said = [np.where(random.random(items) < 0.85, side, ~side) for side in (before, after)]
    right = random.random(texts) < 0.85
    sides = (Rate(float(half.mean()), texts / 2, texts / 2) for half in np.split(right, 2))
    rates = ErrorRates(*sides)
    return judged(said[0]), judged(said[1]), JudgeCorrection(rates, rates)


@pytest.mark.slow
def test_a_drop_of_the_allowed_size_is_rarely_called_larger() -> None:
    random, failed = np.random.default_rng(0), 0
    for _ in range(200):
        before, after, of = planted(random, 0.1)
        failed += decide(rule("max_drop", 0.1), after, before, of).outcome == FAILED
    assert failed <= 12  # Of 200 at a nominal 0.025: more has a probability below 0.002.


def test_the_drop_that_is_promised_is_shown() -> None:
    random = np.random.default_rng(1)
    promised = []
    for _ in range(20):
        before, after, of = planted(random, 0.0)
        power = decide(rule("max_drop", 0.0), after, before, of).power
        assert power and power.smallest
        promised.append(power.smallest)
    drop, shown = float(np.median(promised)), 0
    for _ in range(100):
        before, after, of = planted(random, drop)
        shown += decide(rule("max_drop", 0.0), after, before, of).outcome == FAILED
    assert shown >= 94


def apart(of: JudgeCorrection, sensitivity: float, specificity: float) -> JudgeCorrection:
    """The same with other rates on the unsteered model's texts."""
    return replace(of, unsteered=correction(sensitivity, specificity).rates)


@pytest.mark.parametrize("against", ["unsteered", "prompt", "few-shot"])
def test_texts_of_the_unsteered_model_have_its_rates(against: str) -> None:
    of = apart(correction(0.6, 0.95), 0.9, 0.9)
    found = decide(
        rule("beats", 0.0, against=against),
        judged(first(1520, 4000)),
        judged(first(2320, 4000)),
        of,
    )
    assert found.reference == pytest.approx((0.58 - 0.1) / 0.8)
    random = decide(rule("beats", 0.0, against="random 1"), *[judged(first(1520, 4000))] * 2, of)
    assert random.reference == random.value


def test_what_is_promised_with_two_sets_of_rates_is_shown() -> None:
    random = np.random.default_rng(2)

    def drawn(drop: float) -> RuleVerdict:
        before, after, of = planted(random, drop, items=1000)
        _, _, other = planted(random, drop, items=1000)
        return decide(rule("max_drop", 0.05), after, before, replace(of, unsteered=other.rates))

    promised = [found.power.smallest for found in (drawn(0.0) for _ in range(10)) if found.power]
    drop = float(np.median([each for each in promised if each is not None]))
    assert 0.15 < drop < 0.35
    assert sum(drawn(drop).outcome == FAILED for _ in range(60)) >= 55
    # What the items could not have shown is not passed.
    assert all(drawn(0.1).outcome in (FAILED, INCONCLUSIVE) for _ in range(20))


def test_more_items_do_not_make_up_for_a_small_calibration() -> None:
    of = apart(correction(0.8, 0.8, texts=60), 0.81, 0.8)
    found = decide(rule("max_drop", 0.02), judged(first(2400, 4000)), judged(first(2400, 4000)), of)
    assert found.outcome == INCONCLUSIVE and found.power and found.power.needed is None


@pytest.mark.parametrize(("before", "after"), [(3720, 3640), (3640, 3720), (450, 320)])
def test_ratios_of_shares_at_the_border_have_an_interval(before: int, after: int) -> None:
    sides = [judged(first(number, 4000)) for number in (after, before)]
    found = decide(rule("min_ratio", 0.9), *sides, correction(0.9, 0.9, texts=400))
    assert found.change and found.change.low <= found.change.mean <= found.change.high
    assert found.change.mean >= 0


@pytest.mark.parametrize(
    ("judges", "metric"),
    [
        (REFUSAL, "refusal"),
        (REFUSAL, "partial_refusal"),
        (REFUSAL, "refusal_homonyms"),
        (TOXICITY, "toxic_generations"),
        (HARM, "refused"),
    ],
)
def test_scores_that_follow_from_verdicts_otherwise_are_refused(judges: Any, metric: str) -> None:
    task = SimpleNamespace(judges=judges, config=SimpleNamespace(task="made_up"))
    with pytest.raises(InputError, match=f"{metric} of made_up cannot be corrected"):
        correction_of(task, metric, steered=True)


# Whole checks ------------------------------------------------------------------------------------


@pytest.fixture
def judged_check(naming: Path, write_check: WriteCheck) -> Callable[..., str]:
    """Write a check whose truth the embedded world's exact judge decides."""

    def write(rules: str = f"{{{TRUTH}: {{truth: {{min_gain: 0.02}}}}}}", **keys: str) -> str:
        return str(write_check(rules, **{"judge_correction": "true", **keys}))

    return write


def test_a_check_asks_for_the_correction(
    judged_check: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = judged_check()
    assert main(["check", check]) == 2
    told = capsys.readouterr().err
    assert "judge is not calibrated" in told and "judge calibrate" in told
    calibrate(CalibrationSpec(truth="world", source="mini"))
    files = ("--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md"))
    main(["check", check, *files])
    assert "corrected for the judge's errors (it counted" in capsys.readouterr().out
    (verdict,) = json.loads((tmp_path / "a.json").read_text())["checks"][0]["verdicts"]
    assert verdict["raw"] == [verdict["value"], verdict["reference"]]
    assert "(counted " in (tmp_path / "a.md").read_text()
    main(["check", judged_check(judge_correction="false"), *files])
    (plain,) = json.loads((tmp_path / "a.json").read_text())["checks"][0]["verdicts"]
    assert plain["raw"] is None and plain["value"] == verdict["value"]
    # The calibration of a perfect judge is uncertain as well.
    wide, narrow = (v["change"]["high"] - v["change"]["low"] for v in (verdict, plain))
    assert wide > narrow


def test_a_baseline_keeps_what_a_correction_needs(judged_check: Callable[..., str]) -> None:
    calibrate(CalibrationSpec(truth="world", source="mini"))
    check = judged_check(f"{{{TRUTH}: {{truth: {{max_drop: 0.3, against: baseline}}}}}}")
    assert main(["check", check, "--update-baseline"]) == 0
    written = json.loads(Path(check).with_suffix(".baseline.json").read_text())
    assert set(written["tasks"][TRUTH]["metrics"]) == {"truth", "judged"}
    assert main(["check", check]) == 0


@pytest.mark.parametrize(
    ("rules", "keys", "says"),
    [
        (f"{{{TRUTH}: {{trust_score: {{min: 0.1}}}}}}", {}, "trust_score of .* cannot be correct"),
        (f"{{{TRUTH}: {{truth: {{min: 0.1}}, info: {{min: 0}}}}}}", {}, "measured for truth of"),
        (f"{{{TEXT}: {{word_perplexity: {{max: 9}}}}}}", {}, "nothing to correct"),
        (f"{{{TRUTH}: {{judge_unparsed: {{max: 0.1}}}}}}", {}, "nothing to correct"),
        (f"{{{TRUTH}: {{truth: {{min: 0.1}}}}}}", {"judge_correction": "1"}, "judge_correction"),
        (f"{{{TRUTH}: {{truth: {{min: 0.1}}}}}}", {"judge_correction": "yes"}, "judge_correction"),
    ],
)
def test_what_cannot_be_corrected_is_refused_before_anything_runs(
    judged_check: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rules: str,
    keys: dict[str, str],
    says: str,
) -> None:
    calibrate(CalibrationSpec(truth="world", source="mini"))
    monkeypatch.setattr("lm_eval_trust.gate.run.evaluate", None)
    assert main(["check", judged_check(rules, **keys)]) == 2
    assert re.search(says, capsys.readouterr().err)

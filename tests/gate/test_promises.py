"""What a check promises: it shows what its power statement says, and cries wolf seldom.

Each number is the outcome of 100 seeded simulations of made-up items, judged as `check` decides.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.measured import Pair, measurement, rule

from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate.check_file import Rule
from lm_eval_trust.gate.verdicts import FAILED, PASSED, decide

SIMULATIONS = 100
ENOUGH = 95
PAIRS = {
    "independent": Pair(300),
    "few": Pair(60, churn=0.02),
    "no churn": Pair(100, churn=0.0),
    "grouped": Pair(400, together=4),
}


def outcomes(asked: Rule, pairs: list[tuple[Measurement, Measurement]]) -> list[str]:
    return [decide(asked, after, before).outcome for before, after in pairs]


@pytest.mark.parametrize("allowed", [0.0, 0.05])
@pytest.mark.parametrize("kind", PAIRS)
def test_no_regression_is_reported_where_there_is_none(kind: str, allowed: float) -> None:
    pairs = [PAIRS[kind].draw(seed) for seed in range(SIMULATIONS)]
    assert outcomes(rule("max_drop", allowed), pairs).count(FAILED) <= SIMULATIONS - ENOUGH


@pytest.mark.parametrize("kind", PAIRS)
def test_a_drop_as_large_as_allowed_is_no_regression(kind: str) -> None:
    pairs = [PAIRS[kind].draw(seed, drop=0.05) for seed in range(SIMULATIONS)]
    assert outcomes(rule("max_drop", 0.05), pairs).count(FAILED) <= SIMULATIONS - ENOUGH


@pytest.mark.parametrize("allowed", [0.0, 0.05])
@pytest.mark.parametrize("kind", PAIRS)
def test_a_regression_of_a_size_called_detectable_is_caught(kind: str, allowed: float) -> None:
    asked, caught = rule("max_drop", allowed), 0
    for seed in range(SIMULATIONS):
        before, after = PAIRS[kind].draw(seed)
        power = decide(asked, after, before).power
        assert power is not None and power.smallest is not None
        before, after = PAIRS[kind].draw(SIMULATIONS + seed, drop=power.smallest)
        caught += decide(asked, after, before).outcome == FAILED
    assert caught >= ENOUGH


@pytest.mark.parametrize("kind", PAIRS)
def test_non_inferiority_passes_seldom_at_the_margin_and_mostly_without_a_loss(kind: str) -> None:
    pair, margin = PAIRS[kind], 0.15
    at_margin = [pair.draw(seed, drop=margin) for seed in range(SIMULATIONS)]
    asked = rule("non_inferiority", margin)
    assert outcomes(asked, at_margin).count(PASSED) <= SIMULATIONS - ENOUGH
    kept = 0
    for seed in range(SIMULATIONS):
        before, after = pair.draw(seed)
        power = decide(asked, after, before).power
        assert power is not None and power.smallest is not None
        before, after = pair.draw(SIMULATIONS + seed)
        wide = rule("non_inferiority", power.smallest)
        kept += decide(wide, after, before).outcome == PASSED
    assert kept >= ENOUGH


@pytest.mark.parametrize("ratio", [0.9])
def test_a_floor_under_a_ratio_keeps_both_promises(ratio: float) -> None:
    pair, asked = Pair(400, right=0.7), rule("min_ratio", ratio)
    at_floor = [pair.draw(seed, drop=0.7 * (1 - ratio)) for seed in range(SIMULATIONS)]
    assert outcomes(asked, at_floor).count(FAILED) <= SIMULATIONS - ENOUGH
    caught = 0
    for seed in range(SIMULATIONS):
        before, after = pair.draw(seed)
        power = decide(asked, after, before).power
        assert power is not None and power.smallest is not None
        before, after = pair.draw(SIMULATIONS + seed, drop=0.7 * (1 - power.smallest))
        caught += decide(asked, after, before).outcome == FAILED
    assert caught >= ENOUGH


def texts(seed: int, ratio: float, number: int = 40) -> tuple[Measurement, Measurement]:
    """Texts whose perplexity is 20, and 20 times a true ratio; heavy tails, words in numbers."""
    generator = np.random.default_rng(seed)
    words = generator.integers(5, 40, number)
    before = -words * (np.log(20) + 0.3 * generator.standard_t(5, number))
    change = words * (np.log(ratio) + 0.1 * generator.standard_t(5, number))
    measured = [
        measurement(
            np.stack([logs, words], axis=1).tolist(),
            score=float(np.exp(-logs.sum() / words.sum())),
            higher_is_better=False,
            aggregation="weighted_perplexity",
        )
        for logs in (before, before - change)
    ]
    return measured[0], measured[1]


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_a_ceiling_over_the_ratio_of_perplexities_keeps_both_promises(ratio: float) -> None:
    asked = rule("max_ratio", ratio)
    at_ceiling = [texts(seed, ratio) for seed in range(SIMULATIONS)]
    assert outcomes(asked, at_ceiling).count(FAILED) <= SIMULATIONS - ENOUGH
    caught = 0
    for seed in range(SIMULATIONS):
        before, after = texts(seed, 1.0)
        power = decide(asked, after, before).power
        assert power is not None and power.smallest is not None
        before, after = texts(SIMULATIONS + seed, power.smallest)
        caught += decide(asked, after, before).outcome == FAILED
    assert caught >= ENOUGH

"""Planted turns are found, under autocorrelated noise as well; what cannot be told is undecided."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lm_eval_trust.analysis.phases import (
    BOTH,
    FITTING,
    NONE,
    UNDECIDED,
    Phases,
    correct_phases,
    find_phases,
)
from lm_eval_trust.core.errors import InputError

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])
EVEN = np.arange(18) * 20


def planted(before: float, after: float, knot: int = 7, noise: float = 0.05, seed: int = 0):
    axis = np.log1p(STEPS)
    turn = axis[knot]
    line = 3 + before * np.minimum(axis - turn, 0) + after * np.maximum(axis - turn, 0)
    return line + noise * np.random.default_rng(seed).normal(size=len(STEPS))


def noise(random: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """A stationary AR(1) of variance 1, by its covariance instead of its recursion."""
    covariance = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.linalg.cholesky(covariance) @ random.normal(size=n)


def share_of_both(x: np.ndarray, y: np.ndarray, rho: float, spread: float, runs: int) -> float:
    """How often p of both phases is at most .05."""
    found = 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        sides = (side + spread * noise(random, len(x), rho) for side in (x, y))
        steps = np.round(np.linspace(0, 359, len(x)))
        found += find_phases(steps, *sides, resamples=200).p <= 0.05
    return found / runs


def test_a_planted_turn_is_found() -> None:
    found = find_phases(STEPS, planted(0.5, -0.4), planted(0.3, 0.2, seed=1))
    assert found.verdict == BOTH
    assert found.p <= 0.05 and found.p >= found.p_fitting
    assert found.turn == pytest.approx(STEPS[7])
    assert found.turn_low <= STEPS[7] <= found.turn_high
    assert found.input_before.value == pytest.approx(0.5, abs=0.1)
    assert found.input_after.value == pytest.approx(-0.4, abs=0.1)
    assert found.input_before.low < found.input_before.value < found.input_before.high


def test_fitting_alone() -> None:
    found = find_phases(STEPS, planted(0.5, 0.1), planted(0.3, 0.1, seed=1))
    assert found.verdict == FITTING
    assert found.p > 0.05 >= found.p_fitting


def test_a_fall_with_the_labels_is_no_compression() -> None:
    assert find_phases(STEPS, planted(0.5, -0.4), planted(0.3, -0.4, seed=1)).verdict == NONE


def test_what_falls_from_the_start_has_no_phases() -> None:
    assert find_phases(STEPS, planted(-0.5, -0.4), planted(0.3, 0.2, seed=1)).verdict == NONE


def test_a_rise_that_would_have_been_shown_is_absent() -> None:
    many = np.arange(80)
    random = np.random.default_rng(1)
    flat, rising = random.normal(size=80), many + random.normal(size=80)
    assert find_phases(many, flat, rising).verdict == NONE


def test_too_little_to_tell_is_undecided() -> None:
    random = np.random.default_rng(3)
    found = Counter(
        find_phases(STEPS, *random.normal(size=(2, len(STEPS))), resamples=300).verdict
        for _ in range(20)
    )
    assert found[UNDECIDED] >= 15 and found[BOTH] <= 1


def test_a_constant_has_no_phases() -> None:
    found = find_phases(STEPS, np.full(14, 0.3), planted(0.3, 0.2))
    assert found.verdict == NONE
    assert (found.input_before.value, found.input_after.value) == pytest.approx((0, 0))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_autocorrelated_noise_is_no_compression(rho: float) -> None:
    assert share_of_both(np.zeros(18), np.zeros(18), rho, 1.0, 40) <= 0.075


@pytest.mark.slow
def test_a_saturating_curve_and_random_walks_are_no_compression() -> None:
    saturating = 1 - np.exp(-EVEN / 90)
    assert share_of_both(saturating, saturating, 0.8, 0.3, 40) <= 0.1
    walks = np.random.default_rng(0).normal(size=(40, 2, 18)).cumsum(axis=2)
    found = [find_phases(EVEN, *walk, resamples=200).verdict for walk in walks]
    assert found.count(BOTH) <= 4


def two_phases(n: int) -> tuple[np.ndarray, np.ndarray]:
    """I(T, X) that rises by 1 and falls by .6, and I(T, Y) that saturates."""
    share = np.linspace(0, 1, n)
    return np.where(share < 0.5, 2 * share, 1 - 1.2 * (share - 0.5)), 1 - np.exp(-4 * share)


@pytest.mark.slow
@pytest.mark.parametrize("share_of_rise", [0.2, 0.5])
def test_a_rise_that_stays_is_no_compression(share_of_rise: float) -> None:
    share, runs = np.linspace(0, 1, 18), 400
    sides = np.minimum(share / share_of_rise, 1), 1 - np.exp(-4 * share)
    two_errors = 2 * np.sqrt(0.05 * 0.95 / runs)
    assert share_of_both(*sides, 0.8, 0.3, runs) <= 0.05 + two_errors


@pytest.mark.parametrize(
    ("n", "rho", "spread", "runs"),
    [(18, 0.0, 0.05, 40), (18, 0.5, 0.1, 100), (18, 0.0, 0.08, 40), (80, 0.8, 0.08, 40)],
)
def test_true_phases_are_found(n: int, rho: float, spread: float, runs: int) -> None:
    assert share_of_both(*two_phases(n), rho, spread, runs) >= 0.85


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_a_fall_without_a_kink_is_found(rho: float) -> None:
    part = np.linspace(0, 2.5, 18)
    curve, rising = part * np.exp(1 - part), 1 - np.exp(-4 * np.linspace(0, 1, 18))
    assert share_of_both(curve, rising, rho, 0.05, 40) >= 0.85


def test_a_fall_from_a_level_is_no_fitting() -> None:
    share = np.linspace(0, 1, 18)
    falling, rising = -np.maximum(share - 0.5, 0), 1 - np.exp(-4 * share)
    assert share_of_both(falling, rising, 0.8, 0.15, 60) <= 0.1


def test_the_seed_of_simulated_series_matters_little() -> None:
    random = np.random.default_rng(3)
    sides = [side + 0.1 * noise(random, 18, 0.5) for side in two_phases(18)]
    p = [find_phases(EVEN, *sides, resamples=400, seed=seed).p for seed in range(8)]
    assert 0.005 < np.mean(p) < 0.1
    assert np.std(p) < 0.25 * np.mean(p)


def test_the_interval_of_a_slope_covers_it() -> None:
    axis = np.log1p(STEPS)
    line = 0.5 * np.minimum(axis - axis[7], 0) - 0.4 * np.maximum(axis - axis[7], 0)
    covered = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        x, y = (line + 0.2 * noise(random, 14, 0.5) for _ in "xy")
        found = find_phases(STEPS, x, y, resamples=300)
        covered += [
            slope.low <= truth <= slope.high
            for slope, truth in ((found.input_before, 0.5), (found.input_after, -0.4))
        ]
    assert np.mean(covered) > 0.88


def test_the_interval_of_a_turn_covers_it() -> None:
    covered = []
    for seed in range(100):
        x, y = planted(0.5, -0.4, noise=0.4, seed=seed), planted(0.3, 0.2, seed=seed)
        found = find_phases(STEPS, x, y, resamples=100)
        covered.append(found.turn_low <= STEPS[7] <= found.turn_high)
    assert np.mean(covered) > 0.9


def test_the_scale_and_the_level_of_the_values_do_not_matter() -> None:
    x, y = planted(0.5, -0.4), planted(0.3, 0.2, seed=1)
    one, other = find_phases(STEPS, x, y), find_phases(STEPS, 1e-3 * x - 7, 1e4 * y)
    assert one.verdict == other.verdict
    assert (one.p, one.rho) == pytest.approx((other.p, other.rho))
    assert other.input_after.value == pytest.approx(1e-3 * one.input_after.value)


def test_many_layers_are_corrected_by_holm() -> None:
    def of(p: float, p_fitting: float, verdict: str) -> Phases:
        one = find_phases(STEPS, planted(0.5, -0.4), planted(0.3, 0.2, seed=1), resamples=100)
        return Phases(**{**vars(one), "p": p, "p_fitting": p_fitting, "verdict": verdict})

    given = [of(0.004, 0.004, BOTH), of(0.03, 0.01, BOTH), of(0.6, 0.04, FITTING), of(1, 1, NONE)]
    found = correct_phases(given)
    assert [f.p for f in found] == pytest.approx([0.016, 0.09, 1, 1])
    assert [f.p_fitting for f in found] == pytest.approx([0.016, 0.03, 0.08, 1])
    assert [f.verdict for f in found] == [BOTH, UNDECIDED, UNDECIDED, NONE]


@pytest.mark.parametrize(
    ("steps", "x", "y", "message"),
    [
        (STEPS[:5], np.ones(5), np.ones(5), "at least 6"),
        (STEPS, np.ones(14), np.ones(13), "one length"),
        (STEPS[::-1], np.ones(14), np.ones(14), "ascend"),
        (np.where(STEPS == 4096, np.inf, STEPS), np.ones(14), np.ones(14), "finite"),
        (STEPS, np.full(14, np.nan), np.ones(14), "finite"),
    ],
)
def test_bad_input_is_refused(steps: object, x: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_phases(steps, x, y)  # type: ignore[arg-type]


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="at least 100"):
        find_phases(STEPS, planted(1, 1), planted(1, 1), resamples=20)

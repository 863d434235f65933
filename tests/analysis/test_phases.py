"""Planted turns are found, and noise is called noise."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_trust.analysis.phases import BOTH, FITTING, NONE, find_phases
from lm_eval_trust.core.errors import InputError

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])


def planted(before: float, after: float, knot: int = 7, noise: float = 0.05, seed: int = 0):
    axis = np.log1p(STEPS)
    turn = axis[knot]
    line = 3 + before * np.minimum(axis - turn, 0) + after * np.maximum(axis - turn, 0)
    return line + noise * np.random.default_rng(seed).normal(size=len(STEPS))


def test_a_planted_turn_is_found() -> None:
    found = find_phases(STEPS, planted(0.5, -0.4), planted(0.3, 0.2, seed=1))
    assert found.verdict == BOTH
    assert found.turn == pytest.approx(STEPS[7])
    assert found.turn_low <= STEPS[7] <= found.turn_high
    assert found.input_before.value == pytest.approx(0.5, abs=0.1)
    assert found.input_after.value == pytest.approx(-0.4, abs=0.1)
    assert found.input_before.low < found.input_before.value < found.input_before.high


def test_fitting_alone() -> None:
    assert find_phases(STEPS, planted(0.5, 0.1), planted(0.3, 0.1, seed=1)).verdict == FITTING


def test_a_fall_with_the_labels_is_no_compression() -> None:
    assert find_phases(STEPS, planted(0.5, -0.4), planted(0.3, -0.4, seed=1)).verdict == NONE


def test_what_falls_from_the_start_has_no_phases() -> None:
    assert find_phases(STEPS, planted(-0.5, -0.4), planted(0.3, 0.2, seed=1)).verdict == NONE


def test_intervals_are_those_of_least_squares_with_four_free_numbers() -> None:
    noise = planted(0.3, 0.2, noise=0.3, seed=5)
    found = find_phases(STEPS, planted(0.5, -0.4, noise=0.001), noise, resamples=20_000)
    axis = np.log1p(STEPS)
    # A line with a bend at the turn of I(T, X), and the variance of its slopes: σ² (A'A)⁻¹.
    turn = axis[7]
    design = np.stack([np.ones(14), np.minimum(axis - turn, 0), np.maximum(axis - turn, 0)], axis=1)
    coefficients, squares, *_ = np.linalg.lstsq(design, noise, rcond=None)
    errors = np.sqrt(squares[0] / (14 - 4) * np.diag(np.linalg.inv(design.T @ design)))
    for slope, value, error in zip(
        (found.label_before, found.label_after), coefficients[1:], errors[1:], strict=True
    ):
        assert slope.value == pytest.approx(value)
        assert slope.high - slope.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_noise_gets_no_verdict() -> None:
    random = np.random.default_rng(3)
    verdicts = [
        find_phases(STEPS, *random.normal(size=(2, len(STEPS))), resamples=300).verdict
        for _ in range(60)
    ]
    assert verdicts.count(BOTH) <= 3
    assert verdicts.count(NONE) >= 50


@pytest.mark.parametrize(
    ("steps", "x", "y", "message"),
    [
        (STEPS[:5], np.ones(5), np.ones(5), "at least 6"),
        (STEPS, np.ones(14), np.ones(13), "one length"),
        (STEPS[::-1], np.ones(14), np.ones(14), "ascend"),
        (STEPS, np.full(14, np.nan), np.ones(14), "finite"),
    ],
)
def test_bad_input_is_refused(steps: object, x: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_phases(steps, x, y)  # type: ignore[arg-type]

"""HSIC and its kin against direct float64 formulas, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lm_eval_trust.analysis.hsic import hsic, linear_cka, nhsic, smoother
from lm_eval_trust.analysis.kernels import (
    gaussian_gram,
    median_sigma,
    standardise,
    symmetric_product,
)
from lm_eval_trust.core.errors import InputError

Array = np.ndarray


def distances(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    return np.array([((row - x) ** 2).sum(axis=1) for row in x])


def kernel(x: Array, sigma: float) -> Array:
    return np.exp(-distances(x) / (2 * sigma**2))


def direct_hsic(x: Array, y: Array, sigma: float) -> float:
    """Equation 5, matrix by matrix."""
    n = len(x)
    h = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(kernel(x, sigma) @ h @ kernel(y, sigma) @ h)) / (n - 1) ** 2


def direct_nhsic(x: Array, y: Array, sigma: float, epsilon: float = 1e-5) -> float:
    """The normalised form as the release writes it, with an inverse for each side."""
    n = len(x)
    h = np.eye(n) - np.ones((n, n)) / n
    sides = []
    for z in (x, y):
        width = np.asarray(z).reshape(n, -1).shape[1]
        kh = kernel(z, sigma * math.sqrt(width)) @ h
        sides.append(kh @ np.linalg.inv(kh + epsilon * n * np.eye(n)))
    return float(np.trace(sides[0] @ sides[1]))


def dependent(n: int, d: int = 6, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d))
    return x, (x[:, 0] + random.normal(size=n) > 0).astype(np.float64)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 50.0, 400.0])
@pytest.mark.parametrize("n", [20, 150, 400])
def test_both_estimators_equal_their_direct_formulas(n: int, sigma: float) -> None:
    x, y = dependent(n)
    t = np.tanh(x @ np.random.default_rng(1).normal(size=(6, 9)))
    for a, b in ((x, y), (t, x), (t, y)):
        assert hsic(a, b, sigma) == pytest.approx(direct_hsic(a, b, sigma), rel=1e-6)
        assert nhsic(a, b, sigma) == pytest.approx(direct_nhsic(a, b, sigma), rel=1e-6)


@pytest.mark.slow
def test_both_estimators_at_two_thousand_samples() -> None:
    x, y = dependent(2000)
    assert hsic(x, y, 5.0) == pytest.approx(direct_hsic(x, y, 5.0), rel=1e-6)
    assert nhsic(x, y, 400.0) == pytest.approx(direct_nhsic(x, y, 400.0), rel=1e-6)


def test_two_samples_by_hand() -> None:
    # K = [[1, k], [k, 1]]: H K H = (1 − k)/2 [[1, −1], [−1, 1]].
    x, y = np.array([0.0, 2.0]), np.array([0.0, 1.0])
    k, m = math.exp(-4 / 18), math.exp(-1 / 18)
    assert hsic(x, y, 3.0) == pytest.approx((1 - k) * (1 - m), rel=1e-12)
    a, b = 1 - k, 1 - m
    ridge = 2e-5
    assert nhsic(x, y, 3.0) == pytest.approx(a / (a + ridge) * b / (b + ridge), rel=1e-12)


def test_a_gaussian_with_known_dependence() -> None:
    # For standard normal X = Y in one dimension and unit width, E k = 3^-1/2 over independent
    # pairs, E k² = 5^-1/2, and E k(x, x') k(x, x'') = 8^-1/2 by the determinants of the forms.
    expected = 5**-0.5 + 1 / 3 - 2 * 8**-0.5
    x = np.random.default_rng(0).normal(size=2000)
    assert hsic(x, x, 1.0) == pytest.approx(expected, abs=0.004)


@settings(max_examples=25)
@given(n=st.integers(4, 40), d=st.integers(1, 12), seed=st.integers(0, 1000))
def test_invariances(n: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)), random.normal(size=(n, 2))
    turned = x @ np.linalg.qr(random.normal(size=(d, d)))[0] + random.normal(size=d)
    order = random.permutation(n)
    for measure in (hsic, nhsic):
        value = measure(x, y, 3.0)
        assert measure(turned, y, 3.0) == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert measure(x[order], y[order], 3.0) == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert measure(y, x, 3.0) == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert measure(7 * x, 7 * y, 21.0) == pytest.approx(value, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_dtypes_and_libraries(dtype: type) -> None:
    x = np.arange(24).reshape(8, 3).astype(dtype)
    y = (np.arange(8) % 2).astype(dtype)
    expected = direct_nhsic(x, y, 5.0)
    assert nhsic(x, y, 5.0) == pytest.approx(expected, rel=1e-6)
    assert nhsic(torch.from_numpy(x), torch.from_numpy(y), 5.0) == pytest.approx(expected, rel=1e-6)
    assert isinstance(hsic(x, y), float)


def test_mixed_precision_keeps_six_digits() -> None:
    x, _ = dependent(600, d=64)
    t = np.tanh(x @ np.random.default_rng(1).normal(size=(64, 64)) / 8)
    grams = [
        smoother(
            gaussian_gram(
                torch.from_numpy(standardised), 50.0, by_dimension=True, precision="mixed"
            )
        )
        for standardised in (standardise(torch.from_numpy(v)).numpy() for v in (t, x))
    ]
    found = float((grams[0] * grams[1]).sum(dtype=torch.float64))
    exact = direct_nhsic(*(standardise(torch.from_numpy(v)).numpy() for v in (t, x)), 50.0)
    assert found == pytest.approx(exact, rel=1e-6)


def test_constant_and_repeated_samples_have_defined_values() -> None:
    x, y = dependent(40)
    assert hsic(np.ones((40, 3)), y) == 0
    assert nhsic(np.ones((40, 3)), y) == 0
    pair = np.repeat(x, 2, axis=0), np.repeat(y, 2)
    assert hsic(*pair, 2.0) == pytest.approx(direct_hsic(*pair, 2.0), rel=1e-6)
    assert nhsic(*pair, 2.0) == pytest.approx(direct_nhsic(*pair, 2.0), rel=1e-6)


@pytest.mark.parametrize("measure", [hsic, nhsic, linear_cka])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[1.0], [2.0], [3.0]], [1.0, 2.0], "as many of each"),
        ([[1.0]], [1.0], "at least 2"),
        ([[1.0], [np.nan]], [1.0, 2.0], "x holds values that are not finite"),
        ([[1.0], [2.0]], [1.0, np.inf], "y holds values that are not finite"),
        ([["a"], ["b"]], [1.0, 2.0], "does not hold numbers"),
        (np.ones((3, 2, 2)), [1.0, 2.0, 3.0], "expected"),
        (np.ones((3, 0)), [1.0, 2.0, 3.0], "expected"),
    ],
)
def test_bad_samples_are_refused(measure: object, x: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(x, y)  # type: ignore[operator]


def test_bad_settings_are_refused() -> None:
    x, y = dependent(10)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="sigma"):
            hsic(x, y, sigma)
    with pytest.raises(InputError, match="epsilon"):
        nhsic(x, y, epsilon=0.0)


def test_linear_cka_against_its_formula() -> None:
    random = np.random.default_rng(4)
    for n, d, e in ((30, 5, 7), (10, 40, 25)):
        x, y = random.normal(size=(n, d)), random.normal(size=(n, e))
        a, b = x - x.mean(0), y - y.mean(0)
        k, m = a @ a.T, b @ b.T
        expected = (k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum())
        assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)
        assert linear_cka(x, 3 * x + 1) == pytest.approx(1.0, rel=1e-9)
    with pytest.raises(InputError, match="not defined"):
        linear_cka(np.ones((5, 2)), np.arange(5.0))


def test_standardised_features_have_the_variance_of_the_samples() -> None:
    values = np.random.default_rng(5).normal(3.0, 4.0, size=(7, 3))
    found = standardise(torch.from_numpy(values)).numpy()
    assert found == pytest.approx(stats.zscore(values, ddof=0), rel=1e-12)
    # One step of 0, two of 1: mean 2/3, variance 2/9.
    steps = standardise(torch.tensor([[0.0], [1.0], [1.0]], dtype=torch.float64))
    assert steps[:, 0].tolist() == pytest.approx([-(2**0.5), 2**-0.5, 2**-0.5], rel=1e-12)


def test_the_median_heuristic() -> None:
    x = np.array([0.0, 1.0, 3.0])
    assert median_sigma(x) == pytest.approx(2.0)
    with pytest.raises(InputError, match="no median"):
        median_sigma(np.ones((5, 2)))


@pytest.mark.parametrize("rows", [2, 255, 256, 257, 600])
def test_half_of_a_symmetric_product_is_the_whole(rows: int) -> None:
    factor = torch.from_numpy(np.random.default_rng(rows).normal(size=(rows, 7)))
    found = symmetric_product(factor * 3.0, factor)
    torch.testing.assert_close(found, 3.0 * factor @ factor.T, rtol=1e-13, atol=1e-13)

"""Planted correlations, scipy's coefficients, and corrections for many tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.correlation import benjamini_hochberg, correlate
from lm_eval_trust.core.errors import InputError


def series(strength: float, n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x, strength * x + np.sqrt(1 - strength**2) * random.normal(size=n)


def test_coefficients_are_scipys() -> None:
    x, y = series(0.6)
    y[3] = y[4]  # a tie
    found = correlate(x, y)
    assert found.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.n == 40


def test_a_planted_correlation_is_found_and_noise_is_not() -> None:
    strong = correlate(*series(0.8))
    assert strong.pearson.p < 0.01 and strong.spearman.p < 0.01
    assert 0 < strong.pearson.low < strong.pearson.value < strong.pearson.high <= 1
    p_values = [correlate(*series(0.0, seed=s), resamples=200).pearson.p for s in range(200)]
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) < 0.1


def test_the_interval_covers_the_truth() -> None:
    covered = [correlate(*series(0.6, n=60, seed=s), resamples=400).pearson for s in range(100)]
    assert np.mean([c.low <= 0.6 <= c.high for c in covered]) > 0.85


def test_spearmans_interval_ranks_every_resample_anew() -> None:
    # Few checkpoints: a resample has many ties, whose ranks are not those of the whole series.
    x, y = np.array([1, 2, 3, 4, 50, 6]), np.array([2, 1, 4, 3, 5, 60])
    random = np.random.default_rng(9)
    drawn = []
    while len(drawn) < 4000:
        rows = random.integers(6, size=6)
        if len(set(rows)) > 1:
            drawn.append(stats.spearmanr(x[rows], y[rows]).statistic)
    found = correlate(x, y, resamples=20_000).spearman
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


@pytest.mark.parametrize("sign", [1, -1])
def test_p_counts_both_sides_of_all_permutations(sign: int) -> None:
    x, y = np.arange(6.0), sign * np.array([2.0, 0.5, 1.0, 4.0, 1.5, 3.0])
    exact = stats.permutation_test(
        (y,),
        lambda values: stats.pearsonr(x, values).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
    ).pvalue
    assert 0.2 < exact < 0.5
    assert correlate(x, y, resamples=20_000).pearson.p == pytest.approx(exact, abs=0.02)


def test_corrected_p_values() -> None:
    assert benjamini_hochberg([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.04, 0.04, 0.5])
    assert benjamini_hochberg([]) == []
    with pytest.raises(InputError, match="between 0 and 1"):
        benjamini_hochberg([1.5])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2, 3], "says nothing"),
        ([1, 2, 3, 4], [1, 2, 3], "one length"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "x is the same"),
        ([1, 2, 3, 4], [2, 2, 2, 2], "y is the same"),
        ([1, 2, 3, np.nan], [1, 2, 3, 4], "finite"),
    ],
)
def test_bad_input_is_refused(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        correlate(x, y)

"""Trends fool no test over checkpoints; planted relations are found; scipy's coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.analysis.correlation import (
    correlate,
    correlate_over_steps,
    probe_matrix,
)
from lm_eval_trust.analysis.trends import Trends
from lm_eval_trust.core.errors import InputError

Generator = np.random.Generator
CHECKPOINTS = {n: np.round(np.linspace(0, 359, n)) for n in (12, 18, 36)}


def series(strength: float, n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x, strength * x + np.sqrt(1 - strength**2) * random.normal(size=n)


def learning_curve(random: Generator, steps: np.ndarray) -> np.ndarray:
    rate = np.exp(random.uniform(np.log(18), np.log(180)))
    return random.uniform(0.1, 0.5) * (1 - np.exp(-steps / rate))


def unrelated(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = (learning_curve(random, steps) + 0.01 * random.normal(size=len(steps)) for _ in "xy")
    return x, y


def walks(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = random.normal(size=(2, len(steps))).cumsum(axis=1)
    return x, y


def related(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves whose noise is shared by nine tenths."""
    shared = random.normal(size=len(steps))
    own = random.normal(size=(2, len(steps)))
    x, y = (
        learning_curve(random, steps) + 0.03 * (np.sqrt(0.9) * shared + np.sqrt(0.1) * noise)
        for noise in own
    )
    return x, y


Draw = Callable[[Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]


def rate(draw: Draw, n: int, runs: int, steps: np.ndarray | None = None) -> float:
    random, steps = np.random.default_rng(1), CHECKPOINTS[n] if steps is None else steps
    p_values = [
        correlate_over_steps(steps, *draw(random, steps), resamples=200, seed=seed).p
        for seed in range(runs)
    ]
    return float(np.mean(np.array(p_values) <= 0.05))


@pytest.mark.parametrize("draw", [unrelated, walks])
@pytest.mark.parametrize("n", [12, 18, 36])
def test_common_trends_are_no_relation(draw: Draw, n: int) -> None:
    assert rate(draw, n, 100) <= 0.1


def sudden(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves that jump at a random step."""
    share = steps / steps[-1]
    x, y = (
        1 / (1 + np.exp(-(share - random.uniform(0.1, 0.9)) / 0.03))
        + 0.02 * random.normal(size=len(steps))
        for _ in "xy"
    )
    return x, y


@pytest.mark.parametrize("n", [12, 18])
def test_jumps_between_the_last_of_logarithmic_steps_are_no_relation(n: int) -> None:
    logarithmic = np.expm1(np.linspace(np.log1p(1), np.log1p(359), n))
    assert rate(sudden, n, 100, logarithmic) <= 0.08


def logistic(low: float, high: float, spread: float) -> Draw:
    """Curves that rise with a slope in that range, over the share of the training."""

    def draw(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = steps / steps[-1]
        x, y = (
            1 / (1 + np.exp(-(share - random.uniform(0.2, 0.8)) * random.uniform(low, high)))
            + spread * random.normal(size=len(steps))
            for _ in "xy"
        )
        return x, y

    return draw


@pytest.mark.parametrize("draw", [logistic(8, 15, 0.003), logistic(15, 40, 0.003)])
def test_few_checkpoints_of_curves_that_no_small_degree_fits_are_no_relation(draw: Draw) -> None:
    assert rate(draw, 12, 200, np.linspace(0, 359, 12)) <= 0.07


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [12, 18])
def test_one_checkpoint_at_which_both_dip_is_no_relation(n: int, sign: int) -> None:
    x, y = np.ones(n), np.full(n, 0.8)
    x[7], y[7] = 0.97, 0.8 - sign * 0.1
    found = correlate_over_steps(CHECKPOINTS[n], x, y)
    assert found.p == 0.5 and found.innovations == pytest.approx(sign)


def falling(random: Generator, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves whose noise becomes ten times smaller in training."""
    spread = 0.1 * 10 ** -(steps / steps[-1])
    x, y = (
        2 * learning_curve(random, steps) + spread * random.normal(size=len(steps)) for _ in "xy"
    )
    return x, y


@pytest.mark.parametrize("n", [12, 18, 36])
def test_noise_that_falls_in_both_is_no_relation(n: int) -> None:
    assert rate(falling, n, 100) <= 0.09


def test_p_without_the_checkpoint_that_adds_most_is_that_of_the_others() -> None:
    # A common outlier in noise: with it p is as small as it can be, and without it large.
    steps, random = CHECKPOINTS[36], np.random.default_rng(0)
    x, y = random.normal(size=(2, 36))
    x[20] += 30
    y[20] += 30
    found = correlate_over_steps(steps, x, y)
    places = np.delete(np.arange(36), 20)
    alone = stats.pearsonr(x[places], y[places])
    assert found.innovations > 0.9 and alone.pvalue > 0.2
    assert found.p == pytest.approx(alone.pvalue / 2, rel=0.2)


def test_a_steep_rise_of_both_at_one_time_is_no_relation() -> None:
    steps, random = np.linspace(0, 359, 12), np.random.default_rng(0)
    rise = 1 / (1 + np.exp(-(steps / steps[-1] - 0.5) * 24))
    x, y = (rise + 0.001 * random.normal(size=12) for _ in "xy")
    found = correlate_over_steps(steps, x, y)
    assert found.innovations > 0.99 and found.p > 0.05


@pytest.mark.parametrize(("n", "power"), [(12, 0.6), (18, 0.9), (36, 0.98)])
def test_a_relation_beyond_the_trends_is_found(n: int, power: float) -> None:
    assert rate(related, n, 60) >= power


def test_the_statistic_is_a_partial_correlation() -> None:
    steps, random = CHECKPOINTS[36], np.random.default_rng(43)
    shared = random.normal(size=36)
    x, y = (np.log1p(steps) + shared + noise for noise in random.normal(size=(2, 36)))
    found = correlate_over_steps(steps, x, y, resamples=20_000)
    axis = {"log(1 + step)": np.log1p(steps), "step": steps}[found.axis]
    # Ordinary least squares on what an AR(1) of that ρ leaves, with powers instead of Legendre's.
    kept = np.eye(36) - found.rho * np.eye(36, k=-1)
    kept[0, 0] = np.sqrt(1 - found.rho**2)
    design = kept @ np.vander(axis / axis[-1], found.degree + 1)
    rest = [kept @ v - design @ np.linalg.lstsq(design, kept @ v)[0] for v in (x, y)]
    expected = rest[0] @ rest[1] / np.linalg.norm(rest[0]) / np.linalg.norm(rest[1])
    assert found.innovations == pytest.approx(expected)
    freedom = 36 - found.degree - 2
    t = expected * np.sqrt(freedom / (1 - expected**2))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=0.3)
    assert (found.smallest_p, found.n) == (1 / 20_001, 36)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)


def test_units_and_sign_do_not_matter() -> None:
    steps = CHECKPOINTS[18]
    x, y = related(np.random.default_rng(4), steps)
    one, other = correlate_over_steps(steps, x, y), correlate_over_steps(steps, 1e5 * x, 3 - y)
    assert other.p == pytest.approx(one.p)
    assert other.innovations == pytest.approx(-one.innovations)


def test_what_is_nothing_but_trend_has_no_relation() -> None:
    steps = CHECKPOINTS[12]
    found = correlate_over_steps(steps, np.log1p(steps), np.log1p(steps) * 2)
    assert found.p == 1 and np.isnan(found.innovations)
    assert found.pearson == pytest.approx(1)


def test_a_probe_that_follows_its_own_benchmark_stands_out() -> None:
    steps, random = CHECKPOINTS[36], np.random.default_rng(0)
    own = dict(zip("ab", random.normal(size=(2, 36)), strict=True))
    probes, benchmarks = (
        {
            n: learning_curve(random, steps) + 0.03 * (v + random.normal(size=36) / 3)
            for n, v in own.items()
        }
        for _ in "pb"
    )
    found = probe_matrix(steps, probes, benchmarks)
    cell = found.cells["a", "b"]
    assert cell == correlate_over_steps(steps, probes["a"], benchmarks["b"])
    assert cell is not None and cell.p > 0.05
    assert all(found.cells[n, n].p < 0.01 for n in "ab")  # type: ignore[union-attr]
    assert found.overall.p < 0.01 and found.overall.contrast > 0.5
    assert found.overall.contrast == pytest.approx(
        # Each is that of the ρ at which its p is largest.
        np.mean([control.contrast for control in found.controls.values()]),
        abs=0.2,
    )


def distinguished(loadings: Sequence[float], own: float, n: int, runs: int) -> np.ndarray:
    """Rates of a dimension's p ≤ .05 after Holm's correction, and of the overall p.

    Args:
        loadings: Of each dimension's probe and benchmark, on a factor that all share.
        own: Share of the variance of its noise that a dimension's probe and benchmark share.
    """
    random, steps, found = np.random.default_rng(5), CHECKPOINTS[n], []
    weights = np.array(loadings)[:, None]
    for _ in range(runs):
        common, factors = random.normal(size=n), random.normal(size=(len(weights), n))
        sides = [
            {
                str(i): learning_curve(random, steps) + 0.03 * noise
                for i, noise in enumerate(
                    weights * common
                    + np.sqrt(own) * factors
                    + np.sqrt(1 - weights**2 - own) * random.normal(size=factors.shape)
                )
            }
            for _ in "pb"
        ]
        matrix = probe_matrix(steps, *sides, resamples=100)
        own_p = holm([control.p for control in matrix.controls.values()])
        found.append((min(own_p) <= 0.05, matrix.overall.p <= 0.05))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("n", [12, 18])
@pytest.mark.parametrize("loadings", [(0.95, 0.2), (0.95, 0.95, 0.2)])
def test_one_factor_distinguishes_no_dimensions(loadings: Sequence[float], n: int) -> None:
    # However much each of them follows it, and so however large a contrast is.
    assert distinguished(loadings, 0.0, n, 40).max() <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 18, 36])
@pytest.mark.parametrize("loadings", [(0.95, 0.95, 0.2, 0.2), (0.95, 0.3, 0.3, 0.3), (0.0, 0.0)])
def test_one_factor_distinguishes_no_dimensions_in_many_runs(
    loadings: Sequence[float], n: int
) -> None:
    assert distinguished(loadings, 0.0, n, 300).max() <= 0.07


@pytest.mark.parametrize(("n", "power"), [(12, 0.45), (18, 0.85)])
def test_dimensions_with_factors_of_their_own_are_distinguished(n: int, power: float) -> None:
    assert distinguished((0, 0, 0), 0.9, n, 30).min() >= power


def test_a_jackknife_fits_the_trend_again_without_each_checkpoint() -> None:
    random, rho = np.random.default_rng(1), 0.6
    x, y = random.normal(size=(2, 2, 12)).cumsum(axis=2)
    found = Trends("step", np.arange(12.0)).jackknifed(x, y, 3, rho)
    white = np.eye(12) - rho * np.eye(12, k=-1)
    white[0, 0] = np.sqrt(1 - rho**2)
    design = white @ np.vander(np.arange(12) / 11, 4)
    for place in range(-1, 12):
        kept = np.arange(12) != place
        rest = [
            (values := white @ line)[kept]
            - design[kept] @ np.linalg.lstsq(design[kept], values[kept])[0]
            for line in (*x, *y)
        ]
        lengths = np.linalg.norm(rest, axis=1)
        expected = np.array(rest) @ np.transpose(rest) / np.outer(lengths, lengths)
        assert found[place + 1] == pytest.approx(expected[:2, 2:])


def test_p_is_a_jackknife_s_over_tetrads_at_the_least_favourable_rho() -> None:
    random, steps = np.random.default_rng(2), CHECKPOINTS[18]
    probes, benchmarks = random.normal(size=(2, 2, 18))
    found = probe_matrix(
        steps, *(dict(zip("ab", side, strict=True)) for side in (probes, benchmarks)), resamples=100
    )
    possible = []
    for axis, rho in product((steps, np.log1p(steps)), (0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)):
        r = Trends("", axis).jackknifed(probes, benchmarks, 1, rho)
        tetrad = r[:, 0, 0] * r[:, 1, 1] - r[:, 0, 1] * r[:, 1, 0]
        error = np.sqrt(17 / 18 * ((tetrad[1:] - tetrad[1:].mean()) ** 2).sum())
        possible.append((tetrad[0], stats.t.sf(tetrad[0] / error, 18 - 1 - 2)))
    control = found.controls["a"]
    assert min(abs(np.array(possible) - (control.tetrad, control.p)).max(axis=1)) < 1e-12
    assert control.p == found.controls["b"].p == found.overall.p
    assert control.contrast != found.controls["b"].contrast


def test_constant_series_have_no_cell_and_no_control() -> None:
    steps = CHECKPOINTS[12]
    x, y = unrelated(np.random.default_rng(0), steps)
    found = probe_matrix(steps, {"a": x, "b": y}, {"a": y, "b": np.ones(12)}, resamples=100)
    assert found.cells["a", "b"] is None and found.cells["b", "a"] is not None
    assert np.isnan(found.controls["b"].p) and np.isnan(found.controls["b"].contrast)
    # A contrast with b's probe, and no tetrad without a second pair.
    assert -2 < found.controls["a"].contrast < 2 and np.isnan(found.controls["a"].p)
    alone = probe_matrix(steps, {"a": x}, {"a": y}, resamples=100)
    assert np.isnan(alone.overall.p) and np.isnan(alone.controls["a"].contrast)


def test_a_series_of_nothing_but_trend_has_no_part_in_controls() -> None:
    steps, random = CHECKPOINTS[18], np.random.default_rng(0)
    shared = random.normal(size=18)
    probes = {"a": shared + 0.05 * random.normal(size=18)}
    probes |= {name: random.normal(size=18) for name in "bc"}
    own, third = shared + 0.05 * random.normal(size=18), random.normal(size=18)
    line, constant = (
        probe_matrix(steps, probes, {"a": own, "b": other, "c": third}, resamples=200)
        for other in (steps / 359, np.ones(18))
    )
    assert line.controls["a"] == constant.controls["a"] and line.overall == constant.overall
    assert line.controls["a"].contrast > 0.3 and np.isnan(line.controls["b"].contrast)


def test_contrasts_of_curves_that_need_the_largest_degree_show_nothing() -> None:
    random, steps = np.random.default_rng(7), 2.0 ** np.arange(12)
    rates = 10 ** random.uniform(-3, -0.5, size=(2, 2))
    sides = [
        dict(zip("ab", 1 - np.exp(-steps / steps[-1] / side[:, None]), strict=True))
        for side in rates
    ]
    found = probe_matrix(steps, *sides, resamples=100)
    assert all(cell is not None and cell.degree == 6 for cell in found.cells.values())
    assert {control.p for control in found.controls.values()} == {1.0} and found.overall.p == 1


def test_a_contrast_that_one_checkpoint_makes_is_none() -> None:
    random, steps = np.random.default_rng(3), CHECKPOINTS[18]
    sides = [{n: 0.01 * random.normal(size=18) for n in "ab"} for _ in "pb"]
    for side in sides:
        side["a"][9] += 1
    found = probe_matrix(steps, *sides, resamples=400)
    assert found.controls["a"].contrast > 0.5 and found.controls["a"].p > 0.05


def test_dips_at_one_checkpoint_distinguish_nothing() -> None:
    sides = [{name: np.ones(18) for name in "ab"} for _ in "pb"]
    for side in sides:
        side["a"][5], side["b"][11] = 0.9, 0.8
    found = probe_matrix(CHECKPOINTS[18], *sides, resamples=100)
    assert found.overall.tetrad > 0.9 and found.overall.p > 0.05


STEPS = np.arange(12.0)


@pytest.mark.parametrize(
    ("steps", "x", "y", "message"),
    [
        (STEPS[:11], STEPS[:11], STEPS[:11], "11 checkpoints .* at least 12"),
        (STEPS, STEPS, STEPS[:11], "y has shape"),
        (STEPS[::-1], STEPS, STEPS, "ascend"),
        (np.zeros(12), STEPS, STEPS, "ascend"),
        (STEPS - 1, STEPS, STEPS, "at least 0"),
        (STEPS * np.nan, STEPS, STEPS, "Steps must be finite"),
        (STEPS, STEPS * np.nan, STEPS, "x holds values that are not finite"),
        (STEPS, STEPS, np.ones(12), "y is the same"),
    ],
)
def test_bad_series_over_steps_are_refused(
    steps: np.ndarray, x: np.ndarray, y: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        correlate_over_steps(steps, x, y)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="at least 100 resamples, not 20"):
        correlate_over_steps(STEPS, STEPS, STEPS**2, resamples=20)


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


@pytest.mark.parametrize("n", [6, 20])
def test_intervals_cover_the_truth_however_few_the_pairs(n: int) -> None:
    # The ranks of a bivariate normal have 6 / π arcsin(r / 2).
    truths = 0.6, 6 / np.pi * np.arcsin(0.3)
    found = [correlate(*series(0.6, n=n, seed=s), resamples=100) for s in range(400)]
    for truth, of in zip(truths, ("pearson", "spearman"), strict=True):
        intervals = [getattr(each, of) for each in found]
        assert np.mean([c.low <= truth <= c.high for c in intervals]) >= 0.93


def test_the_interval_is_scipys() -> None:
    x, y = series(0.6)
    found, expected = correlate(x, y).pearson, stats.pearsonr(x, y).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_ranks_is_wider_than_that_of_values_with_the_same_coefficient() -> None:
    """By √(1 + r² / 2), on the scale of artanh r (Bonett and Wright 2000)."""
    found = correlate(*series(0.6)).spearman
    half = 1.96 * np.sqrt((1 + found.value**2 / 2) / 37)
    ends = np.arctanh(found.value) + np.array([-half, half])
    assert np.arctanh([found.low, found.high]) == pytest.approx(ends, abs=1e-4)


def test_ranks_that_all_agree_are_not_certain() -> None:
    found = correlate([1, 2, 3, 4, 5], [1, 4, 9, 16, 26]).spearman
    assert found.value == pytest.approx(1) and found.low < 0.9


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


def test_p_of_ranks_is_that_of_permuted_ranks() -> None:
    # One far pair decides Pearson's p, and is one rank among others in Spearman's.
    x, y = series(0.3)
    x[0], y[0] = 1e3, 1e3
    found, ranked = correlate(x, y), correlate(stats.rankdata(x), stats.rankdata(y))
    assert found.spearman.p == ranked.pearson.p != found.pearson.p


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

"""I(T, X) and I(T, Y): the estimators on standardised samples, their level, power and intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from lm_eval_trust.analysis.hsic import hsic, nhsic
from lm_eval_trust.analysis.information import (
    InformationPlane,
    InformationSettings,
    subsample_interval,
)
from lm_eval_trust.core.errors import InputError


def test_its_level_where_there_is_no_dependence() -> None:
    random = np.random.default_rng(7)
    p_values = []
    for _ in range(200):
        x, t = random.normal(size=(40, 3)), random.normal(size=(40, 3))
        y = (np.arange(40) % 2).astype(float)
        plane = InformationPlane(x, y, InformationSettings(sigma=2.0, permutations=39))
        found = plane.measure(t)
        p_values += [found.input.p, found.label.p]
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.09


def test_dependence_is_found() -> None:
    random = np.random.default_rng(8)
    x = random.normal(size=(120, 4))
    y = (x[:, 0] > 0).astype(float)
    found = InformationPlane(x, y).measure(x + 0.1 * random.normal(size=(120, 4)))
    for null in (found.input, found.label):
        assert null.value > null.quantile95 > null.mean
        assert null.p <= 1 / 100


@pytest.mark.parametrize("estimator", ["nhsic", "hsic"])
@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_the_plane_equals_the_estimators(estimator: str, precision: str) -> None:
    random = np.random.default_rng(9)
    x = random.normal(size=(90, 12)) * 5 + 3
    t = np.tanh(x @ random.normal(size=(12, 7)) / 20)
    y = (random.random(90) > 0.3).astype(float)
    settings = InformationSettings(estimator=estimator, sigma=4.0, precision=precision)
    found = InformationPlane(x, y, settings).measure(t)
    measure = {"nhsic": nhsic, "hsic": hsic}[estimator]
    a, b = (stats.zscore(v.reshape(90, -1)) for v in (t, x))
    close = 1e-9 if precision == "float64" else 1e-5
    assert found.input.value == pytest.approx(measure(a, b, 4.0), rel=close)
    assert found.label.value == pytest.approx(measure(a, y, 4.0), rel=close)
    standardised = replace(settings, standardised_labels=True)
    found = InformationPlane(x, y, standardised).measure(t)
    assert found.label.value == pytest.approx(measure(a, stats.zscore(y), 4.0), rel=close)


@pytest.mark.parametrize("estimator", ["nhsic", "hsic"])
def test_the_median_width_is_each_sides_median_distance(estimator: str) -> None:
    random = np.random.default_rng(11)
    x, t = random.normal(size=(60, 9)), random.normal(size=(60, 16)) ** 3
    x[:, :4] += t[:, :4]
    y = (random.random(60) > 0.4).astype(float)
    sides = [stats.zscore(v.reshape(60, -1)) for v in (t, x, y)]
    h = np.eye(60) - 1 / 60
    factors = []
    for side in sides:
        distances = pdist(side)
        # Most pairs of labels are equal: their width is the median of the others. The release
        # divides nHSIC's exponent by d, but a median distance grows with √d already.
        distances = distances[distances > 0] if side.shape[1] == 1 else distances
        median = np.quantile(distances, 0.5, method="lower")
        centred = h @ np.exp(-(squareform(pdist(side)) ** 2) / (2 * median**2)) @ h
        normalised = centred @ np.linalg.inv(centred + 1e-5 * 60 * np.eye(60))
        factors.append(normalised if estimator == "nhsic" else centred / 59)
    settings = InformationSettings(estimator=estimator, sigma="median", permutations=0)
    found = InformationPlane(x, y, settings).measure(t)
    assert found.input.value == pytest.approx(np.trace(factors[0] @ factors[1]), rel=1e-6)
    assert found.label.value == pytest.approx(np.trace(factors[0] @ factors[2]), rel=1e-6)


def test_the_interval_scales_the_subsamples_deviations() -> None:
    # The interval is as wide as the values of whole samples spread, drawn anew each time; those
    # of a fifth of the samples spread √5 times as wide.
    random = np.random.default_rng(12)
    n, settings = 200, InformationSettings(estimator="hsic", sigma=2.0, permutations=0)

    def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, noise = random.normal(size=(2, n, 2))
        return x, (x[:, 0] + random.normal(size=n) > 0).astype(float), x + noise

    values = []
    for _ in range(150):
        x, y, t = drawn()
        values.append(InformationPlane(x, y, settings).measure(t).label.value)
    widths = []
    for _ in range(12):
        low, high = subsample_interval(*drawn(), settings, share=0.2, repeats=60)[1]
        widths.append(high - low)
    spread = np.subtract(*np.quantile(values, [0.975, 0.025]))
    assert np.mean(widths) == pytest.approx(spread, rel=0.3)


def test_the_interval_covers_the_value_and_narrows_with_n() -> None:
    random = np.random.default_rng(10)
    widths = []
    for n in (60, 400):
        x = random.normal(size=(n, 3))
        y = (x[:, 0] + random.normal(size=n) > 0).astype(float)
        t = x + 0.5 * random.normal(size=(n, 3))
        settings = InformationSettings(estimator="hsic", sigma=2.0)
        whole = InformationPlane(x, y, settings).measure(t)
        (low_x, high_x), (low_y, high_y) = subsample_interval(x, y, t, settings, repeats=40)
        assert low_x < whole.input.value < high_x
        assert low_y < whole.label.value < high_y
        widths.append(high_y - low_y)
    assert widths[1] < 0.7 * widths[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: InformationPlane(np.ones((4, 2)), [0, 1, 2, 1]), "0 or 1"),
        (lambda: InformationPlane(np.ones((4, 2)), [1, 1, 1, 1]), "only one label"),
        (lambda: InformationPlane(np.ones((4, 2)), [1, 0, 1]), "as many of each"),
        (
            lambda: InformationPlane(np.ones((4, 2)), [1, 0, 1, 0]).measure(np.ones((5, 2))),
            "n must be equal",
        ),
        (lambda: InformationSettings(estimator="mi"), "hsic, nhsic"),
        (lambda: InformationSettings(precision="half"), "float64, mixed"),
        (
            lambda: subsample_interval(np.ones((4, 1)), [0, 1, 0, 1], np.ones((4, 1))),
            "not a proper subsample",
        ),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]

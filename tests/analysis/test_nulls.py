"""The permutation null: against a loop over its permutations, its level, its power."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_eval_trust.analysis.hsic import hsic, nhsic
from lm_eval_trust.analysis.information import (
    InformationPlane,
    InformationSettings,
    subsample_interval,
)
from lm_eval_trust.analysis.kernels import standardise
from lm_eval_trust.analysis.nulls import permutation_null
from lm_eval_trust.core.errors import InputError


def symmetric(n: int, seed: int) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n)))
    return values + values.T


@pytest.mark.parametrize("n", [3, 8, 31, 60])
def test_it_equals_a_loop_over_its_permutations(n: int) -> None:
    a, b = symmetric(n, 0), symmetric(n, 1)
    found = permutation_null(a, b, permutations=n, seed=5)
    order = torch.from_numpy(np.random.default_rng(5).permutation(n))
    null = []
    for shift in range(1, n):
        # The sample at each place of the order takes the place of the one `shift` further on.
        target = torch.empty(n, dtype=torch.long)
        target[order] = order.roll(-shift)
        null.append((a * b[target][:, target]).sum().item())
    value = (a * b).sum().item()
    assert found.permutations == n - 1
    assert found.value == pytest.approx(value)
    assert found.mean == pytest.approx(np.mean(null))
    assert found.quantile95 == pytest.approx(np.quantile(null, 0.95))
    assert found.p == pytest.approx((1 + sum(v >= value for v in null)) / n)


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
    a, b, c = (
        standardise(torch.from_numpy(np.asarray(v, dtype=float).reshape(90, -1))).numpy()
        for v in (t, x, y)
    )
    close = 1e-9 if precision == "float64" else 1e-3
    assert found.input.value == pytest.approx(measure(a, b, 4.0), rel=close)
    assert found.label.value == pytest.approx(measure(a, c, 4.0), rel=close)


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
        (lambda: permutation_null(torch.ones(2, 2), torch.ones(2, 2)), "at least 3"),
        (lambda: permutation_null(torch.ones(3, 3), torch.ones(4, 4)), "of one size"),
        (lambda: InformationPlane(np.ones((4, 2)), [0, 1, 2, 1]), "0 or 1"),
        (lambda: InformationPlane(np.ones((4, 2)), [1, 1, 1, 1]), "one label only"),
        (lambda: InformationPlane(np.ones((4, 2)), [1, 0, 1]), "as many of each"),
        (
            lambda: InformationPlane(np.ones((4, 2)), [1, 0, 1, 0]).measure(np.ones((5, 2))),
            "n must be equal",
        ),
        (lambda: InformationSettings(estimator="mi"), "hsic, nhsic"),
        (lambda: InformationSettings(precision="half"), "float64, mixed"),
        (
            lambda: subsample_interval(np.ones((4, 1)), [0, 1, 0, 1], np.ones((4, 1))),
            "no proper subsample",
        ),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]

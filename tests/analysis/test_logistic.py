"""Regressions solved together, against scikit-learn run to its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lm_eval_trust.analysis.logistic import FeatureSpace
from lm_eval_trust.core.errors import InputError

C_VALUES = (0.001, 0.1, 1.0, 30.0)


def problems(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) * random.uniform(0.1, 3, size=d)
    signal = x @ random.normal(size=d) / np.sqrt(d)
    labels = [signal + random.normal(size=n) > 0, signal > 0, random.random(n) > 0.8]
    return x, np.stack(labels, axis=1).astype(np.int64)


@pytest.mark.parametrize(("n", "d"), [(150, 8), (60, 200), (80, 80)])
def test_every_problem_has_scikit_learns_optimum(n: int, d: int) -> None:
    x, labels = problems(n, d, seed=n + d)
    repeated = np.repeat(labels, len(C_VALUES), axis=1)
    c = torch.tensor(C_VALUES * labels.shape[1])
    fits = FeatureSpace(torch.from_numpy(x)).fit(torch.from_numpy(repeated), c)
    for column in range(repeated.shape[1]):
        model = LogisticRegression(C=c[column].item(), tol=1e-10, max_iter=100_000)
        model.fit(x, repeated[:, column])
        assert fits.coefficients[column].numpy() == pytest.approx(model.coef_[0], abs=1e-4)
        assert fits.intercepts[column].item() == pytest.approx(model.intercept_[0], abs=1e-3)
    decisions = fits.decide(torch.from_numpy(x))
    assert decisions.shape == (n, repeated.shape[1])


def test_solving_together_or_apart_is_the_same() -> None:
    x, labels = problems(70, 20, seed=0)
    space = FeatureSpace(torch.from_numpy(x))
    together = space.fit(torch.from_numpy(labels), torch.ones(3))
    for column in range(3):
        alone = space.fit(torch.from_numpy(labels[:, [column]]), torch.ones(1))
        assert torch.allclose(alone.coefficients[0], together.coefficients[column], atol=1e-6)


def test_float32_and_repeated_features() -> None:
    x, labels = problems(70, 6, seed=1)
    doubled = np.concatenate([x, x], axis=1).astype(np.float32)
    fits = FeatureSpace(torch.from_numpy(doubled)).fit(torch.from_numpy(labels), torch.ones(3))
    assert torch.allclose(fits.coefficients[:, :6], fits.coefficients[:, 6:], atol=1e-5)


def test_features_that_say_nothing_leave_the_intercept() -> None:
    labels = torch.tensor([[1], [1], [1], [0]])
    fits = FeatureSpace(torch.zeros(4, 3)).fit(labels, torch.ones(1))
    assert torch.equal(fits.coefficients, torch.zeros(1, 3, dtype=torch.float64))
    assert fits.intercepts.item() == pytest.approx(np.log(3), abs=1e-5)


def test_separable_labels_with_a_weak_penalty() -> None:
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    labels = (x > 0.1).long()
    fits = FeatureSpace(x).fit(labels, torch.tensor([1e4]))
    model = LogisticRegression(C=1e4, tol=1e-12, max_iter=100_000).fit(x, labels[:, 0])
    assert fits.coefficients.item() == pytest.approx(model.coef_.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("features", "labels", "c", "message"),
    [
        (torch.full((4, 2), torch.nan), [0, 1, 0, 1], 1.0, "finite"),
        (torch.ones(4), [0, 1, 0, 1], 1.0, "shape"),
        (torch.ones(4, 2), [1, 1, 1, 1], 1.0, "both labels"),
        (torch.ones(4, 2), [0, 1, 2, 1], 1.0, "0 or 1"),
        (torch.ones(4, 2), [0, 1, 0, 1], 0.0, "C must be above 0"),
    ],
)
def test_bad_input_is_refused(
    features: torch.Tensor, labels: list[int], c: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        FeatureSpace(features).fit(torch.tensor(labels)[:, None], torch.tensor([c]))

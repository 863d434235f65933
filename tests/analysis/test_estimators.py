"""The registry of estimators: what an entry decides, and one that another package adds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lm_eval_trust.analysis import information
from lm_eval_trust.analysis.estimators import ESTIMATORS, Estimator, columns
from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.registry import Registry


class DistanceCovariance(Estimator):
    """Squared sample distance covariance (Székely, Rizzo and Bakirov 2007, equation 2.8)."""

    title = "dCov²"
    description = "distance covariance"

    def factor(self, samples: torch.Tensor, settings: InformationSettings) -> torch.Tensor:
        distances = torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist")
        rows = distances - distances.mean(dim=0)
        return rows - rows.mean(dim=1, keepdim=True)

    def scale(self, n: int) -> float:
        return n**-2


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**{name: ESTIMATORS[name] for name in ESTIMATORS}, "dcov": DistanceCovariance()}
    registry = Registry("estimator", "none", Estimator, known)  # type: ignore[type-abstract]
    monkeypatch.setattr(information, "ESTIMATORS", registry)


def centred(values: np.ndarray) -> np.ndarray:
    distances = cdist(values, values)
    means = distances.mean(axis=0)
    return distances - means - means[:, None] + means.mean()


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("permutations", [0, 100])
def test_an_estimator_needs_one_method_and_has_a_null(permutations: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 3))
    y = (x[:, 0] > 0).astype(float)
    t = x**2 + 0.1 * random.normal(size=(80, 3))
    settings = InformationSettings(estimator="dcov", permutations=permutations)
    found = InformationPlane(x, y, settings).measure(t)
    sides = [centred((v - v.mean(axis=0)) / v.std(axis=0)) for v in (t, x)]
    sides.append(centred(y.reshape(-1, 1)))
    assert found.input.value == pytest.approx((sides[0] * sides[1]).mean(), rel=1e-9)
    assert found.label.value == pytest.approx((sides[0] * sides[2]).mean(), rel=1e-9)
    if permutations:
        # The squares depend on the input but not on its sign.
        assert found.input.p < 0.02 and found.label.p > 0.05
        assert found.input.value > found.input.quantile95 > found.input.mean
    else:
        assert np.isnan([found.input.p, found.input.mean]).all()


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match="Unknown estimator 'mi'; known are hsic, nhsic"):
        InformationSettings(estimator="mi")


def test_columns_of_a_table() -> None:
    assert columns("nhsic") == {"nhsic_tx": "I(T,X), nHSIC", "nhsic_ty": "I(T,Y), nHSIC"}

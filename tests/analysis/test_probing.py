"""Probes against planted directions, scikit-learn's own pipeline, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lm_eval_trust.analysis.probing import probe
from lm_eval_trust.errors import InputError

LABELS = np.arange(200) % 2
TRAIN, TEST = np.arange(120), np.arange(120, 200)


def planted(distance: float) -> np.ndarray:
    """Activations in 12 dimensions whose labels lie apart along one direction."""
    noise = np.random.default_rng(1).normal(size=(200, 12))
    noise[:, 3] += distance * (LABELS - 0.5)
    return 50 + 7 * noise


def test_a_planted_direction_is_found_and_noise_is_not() -> None:
    assert probe(planted(8.0), LABELS, train=TRAIN, test=TEST).accuracy > 0.97
    assert abs(probe(planted(0.0), LABELS, train=TRAIN, test=TEST).accuracy - 0.5) < 0.15


@pytest.mark.parametrize("regularisation", [0.01, 1.0, 30.0])
def test_it_is_a_standardised_logistic_regression(regularisation: float) -> None:
    values = planted(1.0)
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(C=regularisation, max_iter=2000)
    ).fit(values[TRAIN], LABELS[TRAIN])
    found = probe(values, LABELS, train=TRAIN, test=TEST, regularisation=regularisation)
    assert found.accuracy == pipeline.score(values[TEST], LABELS[TEST])


def test_the_test_part_does_not_enter_the_statistics() -> None:
    values = planted(3.0)
    # One outlier in the test part: it is wrong or right by itself, the others stay as they were.
    changed = values.copy()
    changed[150] = 1e6
    before = probe(values, LABELS, train=TRAIN, test=TEST[TEST != 150])
    assert before == probe(changed, LABELS, train=TRAIN, test=TEST[TEST != 150])


def test_constant_features_and_unbalanced_labels() -> None:
    values = planted(6.0)
    values[:, 0] = 4.0
    labels = np.where(np.arange(200) % 4 == 0, 1, 0)
    found = probe(values, labels, train=TRAIN, test=TEST)
    assert found.majority == 0.75
    assert (found.n_train, found.n_test) == (120, 80)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    values = planted(1.0)
    values[5, 5] = value
    with pytest.raises(InputError, match="not finite"):
        probe(values, LABELS, train=TRAIN, test=TEST)


def test_one_label_is_refused() -> None:
    with pytest.raises(InputError, match="needs both"):
        probe(planted(1.0), np.ones(200, dtype=np.int64), train=TRAIN, test=TEST)

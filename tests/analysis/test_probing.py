"""Probes against planted directions, scikit-learn's own pipeline, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lm_eval_trust.analysis.probing import ProbeSettings, fit_probe, probe
from lm_eval_trust.core.errors import InputError

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
    settings = ProbeSettings(regularisations=(regularisation,))
    found = probe(values, LABELS, train=TRAIN, test=TEST, settings=settings)
    assert found.accuracy == pipeline.score(values[TEST], LABELS[TEST])


def test_the_test_part_does_not_enter_the_statistics() -> None:
    values = planted(3.0)
    # One outlier in the test part: it is wrong or right by itself, the others stay as they were.
    changed = values.copy()
    changed[150] = 1e6
    before, after = (
        asdict(probe(each, LABELS, train=TRAIN, test=TEST[TEST != 150]))
        for each in (values, changed)
    )
    np.testing.assert_equal(before, after)


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


def test_c_is_chosen_on_the_validation_part() -> None:
    values = planted(1.5)
    train, validation = TRAIN[:80], TRAIN[80:]
    grid = (1e-4, 1e-2, 1.0)
    settings = ProbeSettings(regularisations=grid)
    found = probe(values, LABELS, train=train, test=TEST, validation=validation, settings=settings)
    scores = []
    for c in grid:
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-9, max_iter=9999))
        pipeline.fit(values[train], LABELS[train])
        scores.append(pipeline.score(values[validation], LABELS[validation]))
    assert found.regularisation == grid[int(np.argmax(scores))]
    with pytest.raises(InputError, match="validation part"):
        probe(values, LABELS, train=train, test=TEST, settings=settings)


def test_auroc_and_the_mass_mean_probe() -> None:
    values = planted(2.0)
    found = probe(values, LABELS, train=TRAIN, test=TEST)
    scaler = StandardScaler().fit(values[TRAIN])
    scaled = scaler.transform(values)
    model = LogisticRegression(max_iter=9999).fit(scaled[TRAIN], LABELS[TRAIN])
    expected = roc_auc_score(LABELS[TEST], model.decision_function(scaled[TEST]))
    assert found.auroc == pytest.approx(expected, abs=1e-3)
    one, zero = (scaled[TRAIN][LABELS[TRAIN] == label].mean(axis=0) for label in (1, 0))
    nearer = ((scaled[TEST] - one) ** 2).sum(1) < ((scaled[TEST] - zero) ** 2).sum(1)
    assert found.mass_mean == ((nearer == 1) == (LABELS[TEST] == 1)).mean()


def test_controls_are_at_chance_and_selectivity_is_what_is_above() -> None:
    found = probe(planted(8.0), LABELS, train=TRAIN, test=TEST, settings=ProbeSettings(controls=20))
    assert found.control is not None and found.selectivity is not None
    assert abs(found.control - 0.5) < 0.05
    assert found.selectivity == found.accuracy - found.control


def test_the_control_leaves_the_real_probe_out() -> None:
    # One labeling each time: with the real probe, which is right everywhere, it would be near 0.75.
    values, settings = planted(20.0), [ProbeSettings(controls=1, seed=seed) for seed in range(20)]
    found = [probe(values, LABELS, train=TRAIN, test=TEST, settings=each) for each in settings]
    assert {result.accuracy for result in found} == {1.0}
    assert np.mean([result.control for result in found]) == pytest.approx(0.5, abs=0.06)


def test_control_labelings_stay_inside_groups() -> None:
    # Both of a pair have the same activations, so that a probe is right for exactly one of them;
    # labels that were permuted over all rows would be alike in half of the pairs.
    groups = [str(i // 2) for i in range(200)]
    values = np.repeat(50.0 * np.random.default_rng(3).normal(size=(100, 12)), 2, axis=0)
    settings = ProbeSettings(controls=10)
    found = probe(values, LABELS, train=TRAIN, test=TEST, groups=groups, settings=settings)
    assert (found.accuracy, found.control) == (0.5, 0.5)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_groups_may_be_arrays_and_tensors(kind: Callable[[list[int]], Any]) -> None:
    groups, settings = [i // 4 for i in range(200)], ProbeSettings(controls=2)
    plain, other = (
        probe(planted(1.0), LABELS, train=TRAIN, test=TEST, groups=given, settings=settings)
        for given in (groups, kind(groups))
    )
    assert other == plain


def test_no_control_labeling_is_the_true_one_or_its_mirror_image() -> None:
    # Of the eight labelings of three pairs, both of these are right where the probe is.
    labels, pairs = np.array([0, 1, 0, 1, 0, 1]), [*"aabbcc"]
    train = np.arange(6)
    fitted = fit_probe(
        np.random.default_rng(0).normal(size=(6, 3)),
        labels,
        train=train,
        groups=pairs,
        settings=ProbeSettings(controls=30),
    )
    others = fitted.labelings[:, 1:].T
    assert len(others) == 30
    assert all(0 < (other == labels).sum() < 6 for other in others)


def test_without_another_labeling_the_control_is_not_defined() -> None:
    groups = ["a" if label else "b" for label in LABELS[:-1]] + ["c"]
    found = probe(
        planted(8.0),
        LABELS,
        train=TRAIN,
        test=TEST,
        groups=groups,
        settings=ProbeSettings(controls=2),
    )
    assert found.control is not None and np.isnan(found.control)


def test_the_validation_part_is_measured_apart() -> None:
    values, train, validation = planted(1.5), TRAIN[:80], TRAIN[80:]
    found = probe(values, LABELS, train=train, test=TEST, validation=validation)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-9, max_iter=9999))
    pipeline.fit(values[train], LABELS[train])
    assert found.validation == pipeline.score(values[validation], LABELS[validation])
    area = roc_auc_score(LABELS[validation], pipeline.decision_function(values[validation]))
    assert found.validation_auroc == pytest.approx(area)
    assert (pipeline.predict(values[TEST]) == LABELS[TEST]).tolist() == found.correct.tolist()
    alone = probe(values, LABELS, train=train, test=TEST)
    assert np.isnan([alone.validation, alone.validation_auroc]).all()


def test_the_majority_is_the_training_parts() -> None:
    labels = np.where(np.arange(200) < 120, np.arange(200) % 4 == 0, np.arange(200) % 4 > 0)
    found = probe(planted(1.0), labels.astype(np.int64), train=TRAIN, test=TEST)
    # Three quarters are 0 in training and 1 in the test.
    assert found.majority == 0.25


def test_the_interval_is_wider_where_statements_stand_or_fall_together() -> None:
    values = planted(1.0)
    apart = probe(values, LABELS, train=TRAIN, test=TEST)
    groups = [str(i // 20) for i in range(200)]
    together = probe(
        np.repeat(values[::10], 10, axis=0),
        np.repeat(LABELS[5::10], 10) * 0 + np.arange(200) // 10 % 2,
        train=TRAIN,
        test=TEST,
        groups=groups,
    )
    assert apart.low <= apart.accuracy <= apart.high
    assert together.high - together.low > apart.high - apart.low


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(200) % 3, "0 or 1"),
        (LABELS[:50], "do not belong"),
        ((np.arange(200) < 120) * (np.arange(200) % 2), "test part"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe(planted(1.0), labels, train=TRAIN, test=TEST)

"""Probes applied to other activations, and under noise."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from lm_eval_trust.analysis.probing import ProbeSettings, fit_probe, probe
from lm_eval_trust.analysis.transfer import cosines, fragility, mean_differences, transferred
from lm_eval_trust.core.errors import InputError

N, WIDTH = 400, 12
TRAIN, TEST = np.arange(240), np.arange(240, N)
Array = npt.NDArray[np.float64]


def sets(seed: int = 0, gap: float = 2.0) -> tuple[Array, Array, npt.NDArray[np.int64], list[str]]:
    """A set; the same one turned, moved and stretched; labels; groups of two."""
    draw = np.random.default_rng(seed)
    labels = np.tile([0, 1], N // 2)
    values = draw.normal(size=(N, WIDTH)) * np.linspace(0.5, 3, WIDTH)
    values[:, 0] += gap * labels
    turned, _ = np.linalg.qr(draw.normal(size=(WIDTH, WIDTH)))
    return values, 5 + 2 * values @ turned, labels, [str(i // 2) for i in range(N)]


def test_a_probe_of_ones_own_is_that_of_probe() -> None:
    values, _, labels, groups = sets()
    settings = ProbeSettings((0.1, 1.0), controls=3)
    part = {"train": TRAIN[:200], "validation": TRAIN[200:], "groups": groups}
    own = probe(values, labels, test=TEST, settings=settings, **part)
    fitted = fit_probe(values, labels, settings=settings, **part)
    found = transferred(fitted, values, labels, train=TRAIN[:200], test=TEST, groups=groups)
    assert (found.accuracy, found.low, found.high) == (own.accuracy, own.low, own.high)
    assert found.auroc == pytest.approx(own.auroc, abs=1e-12)
    assert found.control == pytest.approx(own.control, abs=1e-12)
    assert found.recentred == found.accuracy and found.n == len(TEST)


def test_what_only_moved_is_told_after_recentring() -> None:
    values, _, labels, groups = sets()
    fitted = fit_probe(values, labels, train=TRAIN, groups=groups)
    own = transferred(fitted, values, labels, train=TRAIN, test=TEST)
    moved = transferred(fitted, values + 40.0, labels, train=TRAIN, test=TEST)
    assert own.accuracy > 0.8
    assert moved.accuracy == pytest.approx(0.5)
    assert moved.recentred == own.accuracy and moved.auroc == pytest.approx(own.auroc)
    assert math.isnan(moved.control)


def test_what_was_turned_is_not_told_and_controls_are_chance() -> None:
    values, turned, labels, groups = sets()
    settings = ProbeSettings(controls=20)
    fitted = fit_probe(values, labels, train=TRAIN, groups=groups, settings=settings)
    found = transferred(fitted, turned, labels, train=TRAIN, test=TEST, groups=groups)
    assert abs(found.auroc - 0.5) < 0.25
    assert abs(found.control - 0.5) < 0.05


def test_cosines_beside_those_of_permuted_labels() -> None:
    values, turned, labels, groups = sets(gap=6.0)
    labelings = fit_probe(
        values, labels, train=TRAIN, groups=groups, settings=ProbeSettings(controls=10)
    ).labelings
    own = mean_differences(values, labelings, TRAIN)
    part, wanted = values[TRAIN], labels[TRAIN] == 1
    expected = part[wanted].mean(axis=0) - part[~wanted].mean(axis=0)
    np.testing.assert_allclose(own[:, 0], expected / np.linalg.norm(expected), rtol=1e-12)
    # The same statements elsewhere keep directions that mean nothing as well as one that does.
    assert cosines(own, mean_differences(3 * values + 1, labelings, TRAIN)) == pytest.approx((1, 1))
    assert abs(cosines(own, mean_differences(turned, labelings, TRAIN))[0]) < 0.9
    assert math.isnan(cosines(own[:, :1], own[:, :1])[1])


def test_noise_that_is_drawn_gives_the_accuracy_that_is_expected() -> None:
    values, _, labels, groups = sets(gap=4.0)
    fitted = fit_probe(values, labels, train=TRAIN, groups=groups)
    found = fragility(fitted, values, labels, test=TEST, groups=len(TEST) // 2)
    accuracy = transferred(fitted, values, labels, train=TRAIN, test=TEST).accuracy
    draw, deviation = np.random.default_rng(1), values[TRAIN].std(axis=0)

    def drawn(level: float) -> float:
        noisy = [
            values[TEST] + level * deviation * draw.normal(size=(len(TEST), WIDTH))
            for _ in range(200)
        ]
        told = [(fitted.decisions(part)[:, 0] > 0) == (labels[TEST] == 1) for part in noisy]
        return float(np.mean(told))

    assert drawn(found.half) == pytest.approx(0.5 + (accuracy - 0.5) / 2, abs=0.01)
    above = 0.5 + 1.6449 * math.sqrt(0.25 / (len(TEST) // 2))
    assert drawn(found.chance) == pytest.approx(above, abs=0.01)
    assert found.chance > found.half > 0


def test_the_noise_is_measured_in_the_activations_own_units() -> None:
    values, _, labels, groups = sets()
    scaled = [
        fragility(
            fit_probe(unit * values, labels, train=TRAIN, groups=groups),
            unit * values,
            labels,
            test=TEST,
            groups=80,
        )
        for unit in (1.0, 1000.0)
    ]
    assert scaled[0] == scaled[1]


def test_a_wider_gap_withstands_more() -> None:
    found = []
    for gap in (1.0, 3.0, 9.0):
        values, _, labels, groups = sets(gap=gap)
        fitted = fit_probe(values, labels, train=TRAIN, groups=groups)
        found.append(fragility(fitted, values, labels, test=TEST, groups=80))
    assert found[0].chance < found[1].chance < found[2].chance


def test_a_probe_that_tells_nothing_is_at_chance_without_noise() -> None:
    values, _, labels, groups = sets(gap=0.0)
    fitted = fit_probe(values, labels, train=TRAIN, groups=groups)
    assert fragility(fitted, values, labels, test=TEST, groups=80).chance == 0.0
    constant = fit_probe(np.ones((N, 2)), labels, train=TRAIN, groups=groups)
    found = fragility(constant, np.ones((N, 2)), labels, test=TEST, groups=80)
    assert math.isnan(found.half) and found.chance == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[:, :5], "reads 12 activations, and this set has 5"),
        (lambda values: np.where(values > 3, np.nan, values), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(change: object, message: str) -> None:
    values, _, labels, groups = sets()
    fitted = fit_probe(values, labels, train=TRAIN, groups=groups)
    with pytest.raises(InputError, match=message):
        transferred(fitted, change(values), labels, train=TRAIN, test=TEST)  # type: ignore[operator]
    with pytest.raises(InputError, match="one label only"):
        transferred(fitted, values, labels, train=TRAIN, test=TEST[::2])

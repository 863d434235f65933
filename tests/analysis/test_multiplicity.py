"""Corrected p-values against direct formulations, and their level where nothing is to be found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lm_eval_trust.analysis.multiplicity import (
    beyond_reference,
    corrected_by_families,
    max_statistic,
)
from lm_eval_trust.analysis.nulls import Null, without_null
from lm_eval_trust.core.errors import InputError


def null(value: float, drawn: np.ndarray) -> Null:
    p = (1 + (drawn >= value).sum()) / (1 + len(drawn))
    return Null(value, drawn.mean(), np.quantile(drawn, 0.95), p, len(drawn), 1 / 100, drawn)


def test_one_statistic_keeps_its_p() -> None:
    drawn = np.random.default_rng(0).normal(size=99)
    found = null(1.0, drawn)
    assert max_statistic([found]) == [pytest.approx(found.p)]


def test_the_maximum_is_taken_over_scaled_statistics() -> None:
    random = np.random.default_rng(1)
    drawn = random.normal(size=(3, 99)) * [[1.0], [50.0], [0.1]] + [[5.0], [0.0], [-3.0]]
    values = [8.0, 60.0, -3.05]
    found = max_statistic([null(v, d) for v, d in zip(values, drawn, strict=True)])
    every = np.column_stack([values, drawn])
    scores = (every - every.mean(axis=1, keepdims=True)) / every.std(axis=1, keepdims=True)
    for row, p in enumerate(found):
        assert p == pytest.approx(np.mean([max(column) >= scores[row, 0] for column in scores.T]))


def test_any_false_finding_among_layers_has_the_level() -> None:
    random, any_found = np.random.default_rng(2), []
    for _ in range(300):
        # Neighbouring layers are nearly one.
        statistics = random.normal(size=(20, 100)).cumsum(axis=0) + random.normal(size=(20, 100))
        found = max_statistic([null(row[0], row[1:]) for row in statistics])
        any_found.append(min(found) <= 0.05)
    assert np.mean(any_found) == pytest.approx(0.05, abs=0.035)


def test_nulls_that_were_not_computed_or_do_not_belong_together() -> None:
    assert np.isnan(max_statistic([without_null(1.0)])).all()
    assert max_statistic([]) == []
    drawn = np.arange(20.0)
    with pytest.raises(InputError, match="10, 20"):
        max_statistic([null(1.0, drawn), null(1.0, drawn[:10])])


def test_families_of_one_are_benjamini_and_hochbergs() -> None:
    p = np.random.default_rng(3).uniform(size=30) ** 3
    found = corrected_by_families([[value] for value in p])
    assert np.ravel(found) == pytest.approx(stats.false_discovery_control(p))


def test_a_finding_is_one_inside_a_selected_family() -> None:
    random = np.random.default_rng(4)
    families = [random.uniform(size=4) ** 4 for _ in range(12)]
    found = corrected_by_families(families)
    for q in (0.01, 0.05, 0.2):
        smallest = np.sort([family.min() for family in families])
        selected = max((k for k in range(1, 13) if smallest[k - 1] <= q * k / 12), default=0)
        for family, corrected in zip(families, found, strict=True):
            chosen = selected and family.min() <= q * selected / 12
            expected = [bool(chosen and p <= q * selected / 12) for p in family]
            assert [c <= q + 1e-12 for c in corrected] == expected


@pytest.mark.parametrize("number", range(1, 40))
def test_families_at_the_level_stay_there(number: int) -> None:
    assert np.ravel(corrected_by_families([[0.05]] * number)).tolist() == [0.05] * number


def test_p_that_is_missing_stays_so() -> None:
    found = corrected_by_families([[math.nan, 0.01], [math.nan]])
    assert found[0][1] == pytest.approx(0.01)
    assert math.isnan(found[0][0]) and math.isnan(found[1][0])


def test_values_beyond_a_reference_are_corrected_as_dunnett_does() -> None:
    random = np.random.default_rng(0)
    values, reference = random.normal(size=(6, 1)) + 1, random.normal(size=(8, 1))
    found = beyond_reference(values, reference)[:, 0]
    samples = [[value] for value in values[:, 0]]
    known = stats.dunnett(*samples, control=reference[:, 0], alternative="greater", rng=0)
    # Of the largest, both are the share of panels whose largest is as large.
    assert found.min() == pytest.approx(known.pvalue.min(), abs=0.02)
    assert (found <= known.pvalue + 0.02).all()
    assert (np.diff(found[np.argsort(-values[:, 0])]) >= 0).all()


def test_a_column_that_repeats_another_costs_nothing() -> None:
    random = np.random.default_rng(1)
    values, reference = random.normal(size=(1, 1)) + 2, random.normal(size=(8, 1))
    alone = beyond_reference(values, reference)[0, 0]
    repeated = beyond_reference(values.repeat(5, 1) * 3, reference.repeat(5, 1) * 3)
    assert repeated == pytest.approx(np.full((1, 5), alone), abs=0.01)
    # The same values in another order: each column's t is as before, their correlation is gone.
    others = random.permuted(reference.repeat(5, 1), axis=0)
    assert beyond_reference(values.repeat(5, 1), others).min() > 2 * alone


def test_a_spread_is_at_least_a_step_and_what_is_missing_stays_so() -> None:
    values = np.array([[0.1, 0.5], [np.nan, -3.0], [0.9, np.nan]])
    reference = np.array([[0.0, 0.0], [0.0, 0.1], [0.0, np.nan], [0.0, 0.3]])
    found = beyond_reference(values, reference, step=0.1)
    assert found[0, 0] > stats.t.sf(1 / np.sqrt(1.25), 3)
    assert found[2, 0] == pytest.approx(0.02, abs=0.015)
    assert np.isnan(found).tolist() == np.isnan(values).tolist()
    assert found[1, 1] == pytest.approx(1, abs=0.02)
    assert np.isnan(beyond_reference(values, reference[:2])).all()
    assert beyond_reference(values[:, :1], reference[:, :1])[2, 0] < 0.001

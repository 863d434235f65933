"""Power statements against their equations, for observed and for planned differences."""

from __future__ import annotations

import math

import pytest
from support.measured import binary

from lm_eval_trust.gate.power import Design, planned_contrast


@pytest.mark.parametrize("beyond", [0.0, 0.05])
def test_the_smallest_shown_change_is_what_so_many_groups_show(beyond: float) -> None:
    design = Design.of(binary(12, 10, 178), 0.95)
    smallest = design.smallest_shown(beyond)
    variance = design.variance + (smallest - smallest**2) / design.items
    assert smallest - beyond == pytest.approx(design.quantiles * math.sqrt(variance))
    assert design.groups_needed(smallest, beyond) == pytest.approx(design.groups, abs=1)
    assert design.groups_needed(beyond, beyond) is None


@pytest.mark.parametrize("held", [0.2, 0.4])
def test_a_gain_that_was_observed_adds_its_variance_once(held: float) -> None:
    design = Design.of(binary(0, 80, 120), 0.95)
    smallest = design.smallest_shown(0.1, held)
    added = max(0.0, smallest - held) + held**2 - smallest**2
    variance = design.variance + added / design.items
    assert (smallest > held) is (held == 0.2)
    assert smallest - 0.1 == pytest.approx(design.quantiles * math.sqrt(variance))
    assert smallest < design.smallest_shown(0.1)


def test_agreement_on_all_items_is_no_perfect_power() -> None:
    few, many = (Design.of(binary(0, 0, n), 0.95).smallest_shown() for n in (30, 3000))
    assert few > 0.3
    assert 0.003 < many < 0.01


def test_planned_items_change_with_their_group() -> None:
    alone = planned_contrast([f"{n}" for n in range(40)], 0.1)
    together = planned_contrast([f"{n // 4}" for n in range(40)], 0.2)
    assert (alone.groups, together.groups) == (40, 10)
    assert sorted(alone.sums.sums)[:3] == [-1.0, -1.0, 0.0]
    assert sorted(together.sums.sums)[:2] == [-4.0, 0.0] and together.sums.sums.max() == 4.0

"""Strengths at which steering costs what is asked, on curves whose shape is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lm_eval_trust.rank.dose import Curve, Dose, find_strengths, next_strength

COSTS = (0.05, 0.1, 0.2)
LIMIT = 4.0
CURVES: dict[str, Callable[[float], float]] = {
    "square": lambda a: 0.3 * a * a,
    "steep": lambda a: 40 * a * a,
    "flat": lambda a: 0.02 * a * a,
    "fourth power": lambda a: a**4,
    "threshold": lambda a: max(0.0, a - 1) ** 2,
    "saturating": lambda a: 0.5 * a * a / (1 + a * a),
    "breaking": lambda a: a * a if a < 0.4 else math.nan,
}


class Measured:
    """Counts what is measured of curves that are given as plans."""

    def __init__(self) -> None:
        self.number = self.calls = 0

    def __call__(self, plans: Sequence[Any]) -> list[Dose]:
        self.number += len(plans)
        self.calls += 1
        return [Dose(curve(alpha), 10.0) for curve, alpha in plans]


def search(*names: str, measured: Any = None, **settings: Any) -> Any:
    limit = settings.pop("limit", LIMIT)
    asked = {"costs": COSTS, "tolerance": 0.02} | settings
    curves: Any = {
        name: Curve(lambda alpha, name=name: (CURVES[name], alpha), limit)  # type: ignore
        for name in names
    }
    return find_strengths(curves, measured or Measured(), **asked)


@pytest.mark.parametrize("name", CURVES)
def test_every_cost_is_met_within_the_tolerance(name: str) -> None:
    for strength, cost in zip(search(name)[name], COSTS, strict=True):
        reachable = {"breaking": 0.16}.get(name, CURVES[name](LIMIT))
        assert strength.cost == cost
        assert strength.reached == (cost < reachable)
        assert strength.dose.kl == CURVES[name](strength.alpha)
        if strength.reached:
            assert strength.dose.kl == pytest.approx(cost, rel=0.02)
        assert 0 < strength.alpha <= LIMIT


def test_a_square_law_needs_few_measurements_and_curves_are_measured_together() -> None:
    measured = Measured()
    names = ("square", "steep", "flat", "saturating")
    search(*names, measured=measured)
    assert measured.number <= 8 * len(names)
    assert measured.calls <= 8


def test_what_the_limit_does_not_allow_is_not_reached_and_says_how_far_it_got() -> None:
    for strength in search("flat", limit=1.0)["flat"]:
        assert not strength.reached
        assert (strength.alpha, strength.dose.kl) == (1.0, 0.02)


def test_a_curve_that_turns_is_told_and_its_first_crossing_is_meant() -> None:
    CURVES["wave"] = lambda a: 0.15 * math.sin(4 * a) ** 2
    try:
        found = search("wave", costs=(0.1,))["wave"][0]
    finally:
        del CURVES["wave"]
    assert found.reached
    assert found.dose.kl == pytest.approx(0.1, rel=0.02)
    # The first crossing is at asin(√(2/3)) / 4.
    assert found.alpha == pytest.approx(math.asin(math.sqrt(2 / 3)) / 4, rel=0.05)


def test_falling_values_are_not_monotone() -> None:
    class Falling(Measured):
        def __call__(self, plans: Sequence[Any]) -> list[Dose]:
            return [Dose(0.06 if alpha < 0.2 else 0.03, 10.0) for _, alpha in plans]

    (found,) = search("square", measured=Falling(), costs=(0.1,))["square"]
    assert not found.reached
    assert not found.monotone


def test_steps_beyond_what_is_known_are_bounded() -> None:
    assert next_strength([], 0.1, limit=4.0) == 0.125
    assert next_strength([(0.1, 0.0)], 0.1, limit=4.0) == pytest.approx(0.4)
    assert next_strength([(0.1, 0.099)], 0.1, limit=4.0) == pytest.approx(0.125)
    assert next_strength([(3.9, 0.01)], 0.1, limit=4.0) == 4.0
    assert next_strength([(4.0, 0.01)], 0.1, limit=4.0) is None
    between = next_strength([(1.0, 0.05), (2.0, 0.2)], 0.1, limit=4.0)
    assert between == pytest.approx(math.sqrt(2))
    assert next_strength([(1.0, 0.05), (2.0, math.inf)], 0.1, limit=4.0) == 1.5

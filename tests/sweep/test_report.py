"""What a sweep says of its test half, from outcomes that are given."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.measured import outcome

from lm_eval_trust.evaluate.controls import Arm
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.measurement import Value
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.sweep import report
from lm_eval_trust.sweep.grid import SweepSettings
from lm_eval_trust.sweep.search import Control, Found, Trial

SETTINGS = SweepSettings(tasks=("made_up",), perplexity_task="text", metric="acc")
#: The choice gains 0.5, on every second item; the controls nothing.
BEFORE: list[Value] = [0.0, 1.0] * 20
AFTER: list[Value] = [1.0, 1.0] * 20


def found(before: Outcome, after: Outcome, *controls: Outcome) -> Found:
    steered = SteeringSpec(vector="v", layer=1, alpha=1.0, scale="none")
    arms = [Arm(f"random {n}", "random", SteeringPlan()) for n in range(1, len(controls) + 1)]
    trials = [Trial(None, 8.0, 0.0, True, before, 0.5), Trial(steered, 9.0, 0.1, True, after, 1.0)]
    return Found(
        trials[0],
        (trials[1],),
        trials[1],
        tuple(trials),
        before,
        after,
        tuple(Control(a, o, 9.0, 0.1) for a, o in zip(arms, controls, strict=True)),
    )


def without(values: list[Value], *places: int) -> list[Value]:
    return [None if place in places else value for place, value in enumerate(values)]


@pytest.mark.parametrize("first", [0, 7])
def test_items_without_a_value_are_left_out_and_counted(first: int) -> None:
    arms = [outcome(without(BEFORE, place)) for place in (3, 5, 11)]
    after = outcome(without(AFTER, first, 9))
    of = found(outcome(without(BEFORE, 9)), after, *arms)
    (row,) = report.test_rows(of, SETTINGS)
    assert (row["items"], row["without_value"], row["steered"]) == (38, 2, 1.0)
    # Items of even places are those that the choice gets right and the unsteered model not.
    assert row["change"] == pytest.approx((20 if first % 2 else 19) / 38)
    rows = list(report.control_rows(of, SETTINGS))
    assert [(r["items"], r["without_value"], r["change"]) for r in rows] == [(39, 1, 0.0)] * 3
    assert any(
        "38 of 40 items (the others lack a value)" in line for line in report.summary(of, SETTINGS)
    )


@pytest.mark.slow
def test_all_tables_are_written_where_items_lack_a_value(tmp_path: Path) -> None:
    of = found(outcome(without(BEFORE, 0)), outcome(AFTER), *[outcome(BEFORE)] * 3)
    report.write_report(of, SETTINGS, tmp_path)
    assert pd.read_csv(tmp_path / "test.csv")["without_value"].tolist() == [1]
    assert len(pd.read_csv(tmp_path / "controls.csv")) == 3
    assert pd.read_csv(tmp_path / "effects.csv")["items"].tolist() == [39]


def test_a_model_without_any_value_has_no_row_and_the_summary_says_so() -> None:
    nothing = outcome([None] * 40)
    of = found(outcome(BEFORE), nothing, *[outcome(BEFORE)] * 3)
    assert not list(report.test_rows(of, SETTINGS)) and not list(report.control_rows(of, SETTINGS))
    assert report.beside_random(of, SETTINGS) is None
    assert any(
        "no item has a value of acc from both" in line for line in report.summary(of, SETTINGS)
    )


def test_random_directions_without_a_value_are_left_out_of_the_comparison() -> None:
    arms = [outcome(BEFORE)] * 3
    beside = report.beside_random(
        found(outcome(BEFORE), outcome(AFTER), *arms, outcome([None] * 40)), SETTINGS
    )
    assert beside is not None and (beside.beaten, beside.arms) == (3, 3)
    few = found(outcome(BEFORE), outcome(AFTER), *arms[:2], outcome([None] * 40))
    assert report.beside_random(few, SETTINGS) is None

"""The rules of an audit on measurements that are given."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from support.measured import measurement, outcome

from lm_eval_trust.audit.rules import HARMFUL, NOT_SHOWN, Judged, judge
from lm_eval_trust.audit.settings import Demands
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.measurement import Measurement, Value
from lm_eval_trust.gate.verdicts import FAILED

TEXT = replace(
    measurement([], task="text"),
    ids=[f"text{i}" for i in range(40)],
    groups=[f"text{i}" for i in range(40)],
    scores={"perplexity": 7.4},
    values={"perplexity": [-2.0] * 40},
    aggregations={"perplexity": "perplexity"},
    higher_is_better={"perplexity": False},
)
BEFORE: list[Value] = [0.0, 1.0] * 20
AFTER: list[Value] = [1.0] * 40


def judged(
    before: Outcome,
    after: Outcome,
    suite: tuple[Outcome, Outcome] | None = None,
    text: Measurement = TEXT,
    **demands: float,
) -> Judged:
    """The verdict on a steering that is to improve the task ``made_up``, and keep ``other``."""
    audit: Any = SimpleNamespace(demands=Demands(**demands), tried=1)
    plan: Any = SimpleNamespace(metrics={"made_up": "acc"}, held={"other": ("acc",)})
    texts = tuple(Outcome({}, {}, {"text": of}, {}, {}) for of in (TEXT, text))
    measured: Any = SimpleNamespace(
        before=before, after=after, arms=(), contexts=(), suite=suite, text=texts
    )
    return judge(audit, plan, measured)


def of_others(values: list[Value], **changed: Any) -> Outcome:
    return outcome(values, task="other", **changed)


@pytest.mark.parametrize("place", [0, 7])
def test_items_without_a_value_are_left_out_of_a_gain_and_counted(place: int) -> None:
    after = [None if i == place else value for i, value in enumerate(AFTER)]
    found = judged(outcome(BEFORE), outcome(after))
    (row,) = found.arms
    assert (row.gain.items, row.without) == (39, 1)
    gain = next(finding.verdict for finding in found.findings if finding.group == "gain")
    assert gain is not None and gain.change is not None
    assert row.gain.difference.mean == pytest.approx(gain.change.mean)


@pytest.mark.parametrize("broken", [{"nonfinite": 1}, {"scores": {"acc": math.nan}}])
def test_values_that_mean_nothing_are_harm_only_where_the_steered_model_alone_gives_them(
    broken: dict[str, Any],
) -> None:
    sane = of_others(AFTER)
    broken_task = replace(sane.measurements["other"], **broken)
    doubtful = replace(sane, measurements={"other": broken_task})
    for suite, harm in (
        ((sane, sane), False),
        ((doubtful, sane), False),
        ((doubtful, doubtful), False),
        ((sane, doubtful), True),
    ):
        found = judged(outcome(BEFORE), outcome(AFTER), suite)
        (finding,) = (f for f in found.findings if f.title.startswith("other"))
        assert (finding.outcome == FAILED) == (doubtful in suite)
        assert (finding.harm, found.verdict) == (harm, HARMFUL if harm else NOT_SHOWN)


def test_harm_is_corrected_for_all_comparisons_with_the_unsteered_model() -> None:
    """A loss that is shown at the confidence of two comparisons, but not at that of three."""
    lost = [0.0 if place < 6 else value for place, value in enumerate(AFTER)]
    alone = judged(outcome(AFTER), outcome(lost))
    assert [f.harm for f in alone.findings if f.group == "gain"] == [True]
    suite = of_others(AFTER), of_others(AFTER)
    beside = judged(outcome(AFTER), outcome(lost), suite)
    (gain,) = (f for f in beside.findings if f.group == "gain")
    assert (gain.outcome, gain.harm, beside.verdict) == ("failed", False, NOT_SHOWN)


def test_all_intervals_have_the_confidence_that_is_demanded() -> None:
    before: list[Value] = [1.0] * 100
    after: list[Value] = [0.0] * 8 + before[8:]
    outcomes, reach, wrong = [], [], []
    for confidence in (0.6, 0.95, 0.9999):
        found = judged(outcome(before), outcome(after), confidence=confidence, most_wrong=0.12)
        outcomes.append(next(f.outcome for f in found.findings if f.group == "items"))
        reach.append(found.arms[0].gain.difference)
        wrong.append(found.effects["made_up"][0].wrong)
    assert outcomes == ["passed", "inconclusive", "inconclusive"]
    for one, other in (*pairwise(reach), *pairwise(wrong)):
        assert other.low < one.low and one.high < other.high

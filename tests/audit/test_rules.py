"""The rules of an audit on measurements that are given."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.measured import measurement, outcome

from lm_eval_trust.audit.rules import Judged, judge
from lm_eval_trust.audit.settings import Demands
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.measurement import Value

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


def judged(before: Outcome, after: Outcome, **demands: float) -> Judged:
    """The verdict on a steering that is to improve the task ``made_up``."""
    audit: Any = SimpleNamespace(demands=Demands(**demands), tried=1)
    plan: Any = SimpleNamespace(metrics={"made_up": "acc"}, held={})
    text = Outcome({}, {}, {"text": TEXT}, {}, {})
    measured: Any = SimpleNamespace(
        before=before, after=after, arms=(), contexts=(), suite=None, text=(text, text)
    )
    return judge(audit, plan, measured)


@pytest.mark.parametrize("place", [0, 7])
def test_items_without_a_value_are_left_out_of_a_gain_and_counted(place: int) -> None:
    after = [None if i == place else value for i, value in enumerate(AFTER)]
    found = judged(outcome(BEFORE), outcome(after))
    (row,) = found.arms
    assert (row.gain.items, row.without) == (39, 1)
    gain = next(finding.verdict for finding in found.findings if finding.group == "gain")
    assert gain is not None and gain.change is not None
    assert row.gain.difference.mean == pytest.approx(gain.change.mean)

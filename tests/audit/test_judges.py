"""What an audit says of judged shares without the judge's errors: the same as a check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.measured import outcome, rule

from lm_eval_trust.audit.judges import Corrected, _changes
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.gate.judge_correction import JudgeCorrection, judged_beside
from lm_eval_trust.gate.verdicts import decide
from lm_eval_trust.judges.correction import rates_of
from lm_eval_trust.judges.registry import ACCEPTED, UNMEASURED

ITEMS = 4000
Flags = npt.NDArray[np.bool_]


def calibration(sensitivity: float, specificity: float, **parts: Any) -> dict[str, Any]:
    counts = dict.fromkeys(
        ("positive_items", "negative_items", "positive_groups", "negative_groups"), 2000
    )
    shares = {"sensitivity": {"value": sensitivity}, "specificity": {"value": specificity}}
    return {**shares, **counts, "correlation": 0.0, **parts}


def verdicts(truth: Flags, sensitivity: float, specificity: float, seed: int) -> Flags:
    drawn = np.random.default_rng(seed).random(len(truth))
    said: Flags = drawn < np.where(truth, sensitivity, 1 - specificity)
    return said


def measured(said: Flags, unread: Flags) -> Measurement:
    """Judged texts; one without a verdict counts as not accepted."""
    found = outcome((said & ~unread).astype(float).tolist()).measurements["made_up"]
    read: Any = (~unread).astype(float).tolist()
    return replace(found, values={**found.values, judged_beside("acc"): read})


def change(
    figures: Any, before: Measurement, after: Measurement, share: str = ACCEPTED
) -> Corrected:
    (found,) = _changes("acc", share, figures, before, after, 0.95)
    return found


@pytest.mark.parametrize("apart", [False, True])
def test_a_corrected_change_is_that_of_a_check(apart: bool) -> None:
    """30 % of the steered texts are not read, and a calibration may separate steered texts."""
    steered, plain = ((0.6, 0.95), (0.9, 0.7)) if apart else ((0.9, 0.7), (0.9, 0.7))
    parts = {"steered": calibration(*steered), "unsteered": calibration(*plain)} if apart else {}
    figures = calibration(0.8, 0.8, **parts) if apart else calibration(*plain)
    truth = np.random.default_rng(0).random(ITEMS) < 0.5
    unread = np.random.default_rng(1).random(ITEMS) < 0.3
    before = measured(verdicts(truth, *plain, seed=2), np.zeros(ITEMS, dtype=bool))
    after = measured(verdicts(truth, *steered, seed=3), unread)
    rates = [rates_of(figures, ACCEPTED, steered=of) for of in (True, False)]
    checked = decide(rule("max_drop", 0.05), after, before, JudgeCorrection(*rates)).change
    corrected = change(figures, before, after).corrected
    assert corrected is not None and corrected == checked
    truly = (truth & ~unread).mean() - truth.mean()
    assert corrected.low < truly < corrected.high
    assert corrected.mean == pytest.approx(truly, abs=0.05)


def test_what_cannot_be_corrected_says_why_and_what_has_no_value_is_left_out() -> None:
    none = np.zeros(40, dtype=bool)
    texts = measured(~none, none)
    assert "not calibrated" in change(None, texts, texts).why
    assert change(calibration(0.9, 0.9), texts, texts, UNMEASURED).corrected is None
    lacking = replace(texts, values={"acc": [None] * 40})
    assert list(_changes("acc", ACCEPTED, calibration(0.9, 0.9), texts, lacking, 0.95)) == []

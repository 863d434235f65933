"""The reported layer: chosen on the validation part, beside its controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from lm_eval_trust.analysis.probe_summary import COLUMNS, probe_summary
from lm_eval_trust.analysis.tables import Measurement, as_table


def rows(
    estimator: str,
    values: Mapping[int, float],
    *,
    checkpoint: str = "ckpt_1",
    step: int | None = 1,
) -> list[Measurement]:
    return [
        Measurement(checkpoint, step, 0, "fairness", layer, estimator, v, v - 0.1, v + 0.1, 50)
        for layer, v in values.items()
    ]


PROBES = [
    *rows("probe_accuracy", {0: 0.9, 3: 0.7, 5: 0.8}),
    *rows("probe_validation", {0: 0.6, 3: 0.8, 5: 0.8}),
    *rows("probe_validation_auroc", {0: 0.99, 3: 0.85, 5: 0.84}),
    *rows("probe_over_words", {0: 0.3, 3: 0.1, 5: 0.2}),
    *rows("probe_words", {-1: 0.6}),
    *rows("probe_majority", {0: 0.51, 3: 0.52, 5: 0.53}),
    *rows("probe_selectivity", {0: 0.4, 3: 0.2, 5: 0.3}),
]


def test_the_layer_is_the_validation_parts_best_and_not_the_tests() -> None:
    (found,) = probe_summary(as_table(PROBES)).to_dict("records")
    assert list(found) == list(COLUMNS)
    # Layers 3 and 5 tell as many; 3 has the larger area. The test part would have chosen 0.
    assert (found["layer"], found["accuracy"]) == (3, 0.7)
    assert (found["low"], found["high"]) == (pytest.approx(0.6), pytest.approx(0.8))
    assert (found["words"], found["over_words"]) == (0.6, 0.1)
    assert (found["majority"], found["selectivity"], found["n"]) == (0.52, 0.2, 50)
    assert math.isnan(found["matched"]) and math.isnan(found["untrained"])


def test_controls_are_chosen_on_their_own_validation_part() -> None:
    untrained = {"checkpoint": "untrained", "step": 0}
    controls = [
        *rows("probe_untrained", {0: 0.55, 3: 0.65}, **untrained),
        *rows("probe_untrained_validation", {0: 0.7, 3: 0.5}, **untrained),
        *rows("probe_untrained_validation_auroc", {0: 0.5, 3: 0.5}, **untrained),
        *rows("probe_matched", {0: 0.5, 3: 0.58}),
        *rows("probe_matched_validation", {0: 0.4, 3: 0.6}),
        *rows("probe_matched_validation_auroc", {0: 0.4, 3: math.nan}),
    ]
    (found,) = probe_summary(as_table(PROBES + controls)).to_dict("records")
    assert (found["untrained"], found["untrained_model"]) == (0.55, "untrained")
    assert found["matched"] == 0.58
    assert math.isnan(found["matched_words"]) and math.isnan(found["matched_over_words"])
    words = [
        *rows("probe_matched_words", {-1: 0.6}),
        *rows("probe_matched_over_words", {0: -0.1, 3: -0.02}),
    ]
    (found,) = probe_summary(as_table(PROBES + controls + words)).to_dict("records")
    assert (found["matched_words"], found["matched_over_words"]) == (0.6, -0.02)
    assert found["matched_over_words_high"] == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("step", "tokens", "name"),
    [
        (0, 0, "ckpt_0"),
        # Amber's first checkpoint has the running number 0, and has seen 3.5 billion tokens.
        (0, 3_497_600_000, "first checkpoint ckpt_0"),
        (0, None, "first checkpoint ckpt_0"),
        (100, 0, "first checkpoint ckpt_0"),
        (200, 0, ""),
        (None, None, ""),
    ],
)
def test_the_first_of_several_checkpoints_stands_for_an_untrained_model(
    step: int | None, tokens: int | None, name: str
) -> None:
    first: dict[str, Any] = {"checkpoint": "ckpt_0", "step": step}
    earlier = [
        *rows("probe_accuracy", {0: 0.52, 3: 0.5}, **first),
        *rows("probe_validation", {0: 0.5, 3: 0.4}, **first),
        *rows("probe_validation_auroc", {0: 0.5, 3: 0.4}, **first),
    ]
    earlier = [replace(row, tokens=tokens) for row in earlier]
    later = [replace(row, step=200) for row in PROBES]
    found = probe_summary(as_table(earlier + later))
    assert list(found["checkpoint"]) == ["ckpt_0", "ckpt_1"]
    # Of two models of the same step, or one with a step, neither is the first.
    assert list(found["untrained"].dropna()) == ([0.52, 0.52] if name else [])
    assert set(found["untrained_model"]) == {name}


def test_without_a_validation_part_no_layer_is_chosen() -> None:
    unknown = [row for row in PROBES if not row.estimator.startswith("probe_validation")]
    unknown += rows("probe_validation", {0: math.nan, 3: math.nan})
    assert probe_summary(as_table(unknown)).empty
    assert probe_summary(as_table(rows("nhsic_tx", {0: 1.0}))).empty
    assert isinstance(probe_summary(as_table([])), pd.DataFrame)

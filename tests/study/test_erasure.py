"""Causal use: scores with and without a model's own direction, and the study that asks for them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.erasure import erasure_figures, erasure_table
from lm_eval_trust.study.grid import Study

NAMES = {"a": 0, "b": 9}


def row(
    model: str, value: float, source: str | None = None, **further: object
) -> dict[str, object]:
    return {
        "evaluation": "e",
        "task": "t",
        "metric": "acc",
        "model": model,
        "seed": 0,
        "stage": "pretraining" if model == "a" else "sft",
        "step": NAMES[model],
        "source": source,
        "dimension": "reliability" if source else None,
        "layer": "1" if source else None,
        "alpha": 1.0 if source else 0.0,
        "action": "erase" if source else None,
        "n": 40,
        "value": value,
        "stderr": 0.03,
        **further,
    }


ROWS = [
    row("a", 0.9),
    row("b", 0.8),
    row("a", 0.5, "a"),
    row("a", 0.85, "a", dimension="privacy"),
    row("b", 0.8, "b", stderr=0.04),
    # Another model's direction, and one that is added, are no erasure of one's own.
    row("a", 0.1, "b"),
    row("b", 0.2, "b", action="add"),
]


def test_a_fall_is_the_score_less_that_without_the_direction() -> None:
    found = erasure_table(pd.DataFrame(ROWS))
    assert list(zip(found["model"], found["dimension"], strict=True)) == [
        ("a", "reliability"),
        ("a", "privacy"),
        ("b", "reliability"),
    ]
    assert found["fall"].tolist() == pytest.approx([0.4, 0.05, 0.0])
    assert found["fall_stderr"].tolist() == pytest.approx([0.03 * 2**0.5, 0.03 * 2**0.5, 0.05])


def test_falls_are_drawn_over_the_stages() -> None:
    ((name, figure),) = erasure_figures(erasure_table(pd.DataFrame(ROWS)))
    assert name == "erasure-e-t"
    axes = figure.axes[0]
    (stages,) = axes.child_axes
    assert [label.get_text() for label in stages.get_xticklabels()] == ["pretraining", "sft"]
    names = [bars.get_label() for bars in axes.containers]
    assert names == ["privacy, block 1", "reliability, block 1"]


def test_own_sources_steer_each_model_by_itself(
    open_study: Callable[..., Study], text: str
) -> None:
    own = text.replace("sources: checkpoints", "sources: own").replace(
        "  - name: transfer\n    models: [", "  - name: transfer\n    models: [ckpt_000, "
    )
    cells = open_study(own).grid().evaluations["transfer"]
    steered = [cell for cell in cells if cell.steering]
    assert len(cells) - len(steered) == 2 and len(steered) == 2 * 2
    for cell in steered:
        assert cell.steering and cell.steering.vector.model == cell.model
    with pytest.raises(InputError, match=r"steering.sources"):
        open_study(text.replace("sources: checkpoints", "sources: owns"))

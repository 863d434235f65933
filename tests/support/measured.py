"""Measurements with planted truths: what a model scored on made-up items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.statistics import GroupTotals
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.measurement import Measurement, Value
from lm_eval_trust.gate.check_file import Rule
from lm_eval_trust.gate.paired_test import Contrast

Array = npt.NDArray[np.float64]


def measurement(
    values: Sequence[Value],
    groups: Sequence[object] | None = None,
    *,
    score: float = 0.0,
    higher_is_better: bool | None = True,
    aggregation: str = "mean",
    **changed: Any,
) -> Measurement:
    """A task ``made_up`` with one metric ``acc``."""
    ids = [f"item{i:05d}" for i in range(len(values))]
    told = {
        "task": "made_up",
        "version": "1",
        "meaning": {"data_fingerprint": "d"},
        "higher_is_better": {} if higher_is_better is None else {"acc": higher_is_better},
        "aggregations": {"acc": aggregation},
        "scores": {"acc": score},
        "ids": ids,
        "groups": ids if groups is None else [str(group) for group in groups],
        "values": {"acc": list(values)},
    }
    return Measurement(**{**told, **changed})


def outcome(values: Sequence[Value], **changed: Any) -> Outcome:
    """An evaluation of such a task, whose score is the mean over the items with a value."""
    known = [value for value in values if isinstance(value, float)]
    score = sum(known) / len(known) if known else math.nan
    found = measurement(values, score=score, positions=list(range(len(values))), **changed)
    scores = {found.task: {"acc,none": score}}
    return Outcome(scores, {found.task: len(values)}, {found.task: found}, {}, {})


def rule(kind: str, bound: float, **changed: Any) -> Rule:
    """A rule on the metric of :func:`measurement`."""
    told = {
        "task": "made_up",
        "metric": "acc",
        "kind": kind,
        "bound": bound,
        "against": "unsteered",
        "confidence": 0.95,
        "detect": None,
        "strict": kind in ("min_gain", "non_inferiority"),
        "place": ("rules", "made_up", "acc", kind),
    }
    return Rule(**{**told, **changed})


@dataclass(frozen=True)
class Pair:
    """Two models whose true accuracies are known.

    Attributes:
        items: How many.
        together: Items of a group; half of the groups change as one.
        right: True accuracy of the first model.
        churn: True share of items that change while nothing is lost.
    """

    items: int
    together: int = 1
    right: float = 0.6
    churn: float = 0.1

    def draw(self, seed: int, drop: float = 0.0) -> tuple[Measurement, Measurement]:
        """Both models' measurements, the second worse by a true drop."""
        generator = np.random.default_rng(seed)
        groups = np.arange(self.items) // self.together
        before = generator.random(self.items) < self.right
        alone = generator.random(self.items)
        shared = generator.random(groups.max() + 1)[groups]
        as_one = (generator.random(groups.max() + 1) < 0.5)[groups]
        moved = np.where(as_one, shared, alone)
        lost = (self.churn / 2 + drop) / self.right
        won = self.churn / 2 / (1 - self.right)
        after = np.where(before, moved >= lost, moved < won)
        return self._measured(before, groups), self._measured(after, groups)

    def _measured(self, values: npt.NDArray[np.bool_], groups: Array) -> Measurement:
        return measurement(
            values.astype(float).tolist(), groups.tolist(), score=float(values.mean())
        )


def binary(gained: int, lost: int, same: int, together: int = 1) -> Contrast:
    """Yes-or-no items of which some are gained, lost and the same, in groups of a size."""
    values = np.repeat([1.0, -1.0, 0.0], [gained, lost, same])
    groups = np.arange(len(values)) // together
    paired = GroupTotals.of(values, groups.tolist())
    return Contrast(paired, step=1.0, reach=1.0)

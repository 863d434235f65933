"""Scores of parsed answers that several tasks share: ``process_results`` of their YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval_trust.tasks.parsing import UNPARSED


def binary_label(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score an answer ``0`` or ``1`` against the row's label; an unparsed answer is wrong."""
    correct = float(results[0] == str(doc["label"]))
    return {"acc": correct, "trust_score": correct, "unparsed": float(results[0] == UNPARSED)}

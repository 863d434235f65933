"""Planted rows and a planted judge in place of real ones."""

from __future__ import annotations

import pytest
from support.harness import PLANTED, PlantedJudge

from lm_eval_trust.judges.registry import TOXICITY


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task reads planted rows, and the planted judge can be chosen."""
    monkeypatch.setattr(
        "lm_eval_trust.tasks.trust_task.load_rows", lambda form, **settings: PLANTED[form]
    )
    monkeypatch.setitem(TOXICITY.factories, "planted", lambda split_seed: PlantedJudge())  # type: ignore[arg-type]

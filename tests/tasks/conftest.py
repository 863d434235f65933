"""Planted rows and a planted judge in place of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.harness import PLANTED, PlantedJudge

from lm_eval_trust.judges.interface import ToxicityJudge
from lm_eval_trust.judges.registry import TOXICITY_JUDGES, JudgeEntry


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task reads planted rows, and the planted judge can be chosen."""
    monkeypatch.setattr(
        "lm_eval_trust.tasks.trust_task.load_rows", lambda form, **settings: PLANTED[form]
    )
    planted: JudgeEntry[ToxicityJudge] = JudgeEntry("planted", lambda request: PlantedJudge())
    monkeypatch.setitem(TOXICITY_JUDGES._entries, "planted", planted)


@pytest.fixture(scope="session")
def shared_cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def shared_cache(own_cache: None, shared_cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for the room, so that the linear judge is trained once."""
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(shared_cache_dir))

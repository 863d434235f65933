"""The worlds and the quick family."""

from __future__ import annotations

import pytest
from support.mini import QUICK

from lm_eval_trust.mini import family
from lm_eval_trust.mini.world import World, build_world


@pytest.fixture(params=[0, 7])
def world(request: pytest.FixtureRequest) -> World:
    return build_world(request.param)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the family stand for models that are trained in seconds."""
    monkeypatch.setattr(family, "RECIPE", QUICK)

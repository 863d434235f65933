"""Worlds of different seeds."""

from __future__ import annotations

import pytest

from lm_eval_trust.mini.world import World, build_world


@pytest.fixture(params=[0, 7])
def world(request: pytest.FixtureRequest) -> World:
    return build_world(request.param)

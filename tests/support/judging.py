"""Fixtures for judges: a server in OpenAI's place, none of the user's settings, short waits."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lm_eval_trust.core import retry
from support.openai_server import OpenAI, openai_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    with openai_server() as served:
        monkeypatch.setenv("OPENAI_BASE_URL", served.address)
        yield served


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LM_EVAL_TRUST_JUDGE_", "OPENAI_")) or name.endswith("_JUDGE"):
            monkeypatch.delenv(name)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that no server asked for are short."""
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.002)

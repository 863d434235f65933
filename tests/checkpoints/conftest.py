"""A Hub with a family of four checkpoints, which this process asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from support.hub import Hub, Repository, hub_server, stand_in_model

from lm_eval_trust.checkpoints.cache import Budget
from lm_eval_trust.checkpoints.families import Checkpoint
from lm_eval_trust.checkpoints.store import CheckpointStore
from lm_eval_trust.core.retry import RetryPolicy


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server() as found:
        files = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        revisions = {f"step{i}": stand_in_model(i, 200_000) for i in range(4)}
        found.models["velmi/tides"] = Repository(revisions)
        yield found
        close_session()


@pytest.fixture
def checkpoints() -> list[Checkpoint]:
    return [Checkpoint(f"step{i}", i, None, "velmi/tides", f"step{i}") for i in range(4)]


@pytest.fixture
def store(tmp_path: Path, hub: Hub) -> Callable[..., CheckpointStore]:
    """Factory of stores that do not wait for long, all in one folder."""

    def build(budget: Budget | None = None, **policy: float) -> CheckpointStore:
        hurried = {"tries": 3, "first_wait": 0.01, "timeout": 5, **policy}
        return CheckpointStore(tmp_path / "store", budget, RetryPolicy(**hurried))  # type: ignore[arg-type]

    return build

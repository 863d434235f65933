"""A vector named by its dimension is built on first use, found again, guarded like any other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

import lm_eval_trust.tasks
from lm_eval_trust.core.errors import LeakError
from lm_eval_trust.model_wrappers.steerable import SteerableLM
from lm_eval_trust.steering import build as building

TASKS = Path(lm_eval_trust.tasks.__file__).parent


@pytest.fixture
def steered(
    tiny_llama: Callable[..., Path], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SteerableLM]:
    """Factory of a model steered by the SST-2 vector of another model."""
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(data_dir))
    source = tiny_llama(seed=3)

    def build(**arguments: Any) -> SteerableLM:
        settings = {"pretrained": str(tiny_llama()), "dimension": "sst2", "source": str(source)}
        made: SteerableLM = get_model("steered_amber").create_from_arg_obj(
            settings | {"layer": 1, "dtype": "float32"} | arguments, {"device": "cpu"}
        )
        return made

    return build


def test_it_is_built_once_and_found_again(
    steered: Callable[..., SteerableLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = steered()
    (entry,) = (Path(os.environ["LM_EVAL_TRUST_CACHE"]) / "vectors").glob("*.safetensors")
    monkeypatch.setattr(building, "build_vector", lambda *a, **k: pytest.fail("built again"))
    second = steered(alpha=2)
    assert [p.fingerprint for p in second.plan.built_from] == [
        p.fingerprint for p in first.plan.built_from
    ]
    assert second.plan.fingerprint != first.plan.fingerprint
    assert entry.exists()


@pytest.mark.slow
def test_another_seed_of_the_split_is_another_vector(
    steered: Callable[..., SteerableLM],
) -> None:
    groups = [set(steered(split_seed=seed).plan.built_from[0].groups) for seed in (0, 1)]
    assert groups[0] != groups[1]


@pytest.mark.slow
def test_the_own_split_is_evaluated_and_another_is_refused(
    steered: Callable[..., SteerableLM],
) -> None:
    lm = steered()

    def evaluate(**metadata: Any) -> Any:
        manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
        return simple_evaluate(
            model=lm, tasks=["trust_sst2_ll"], task_manager=manager, limit=40, bootstrap_iters=0
        )

    assert evaluate()["n-samples"]["trust_sst2_ll"]["effective"] == 40
    with pytest.raises(LeakError, match=r"of the 40 items of trust_sst2_ll belong to"):
        evaluate(split_seed=1)
    with pytest.raises(LeakError, match="of the 40 items"):
        evaluate(split="full")

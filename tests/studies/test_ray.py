"""Ray: who fits where, and what is told; benchmarks/study_ray.py kills a node of a cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lm_eval_trust.errors import ExternalError
from lm_eval_trust.studies.folder import StudyFolder
from lm_eval_trust.studies.grid import Study
from lm_eval_trust.studies.ray_engine import most_on_a_node
from lm_eval_trust.studies.run import run_study
from lm_eval_trust.studies.spec import EngineSpec

pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("engine", "most"),
    [({}, 8), ({"cpus": 3}, 2), ({"gpus": 1}, 2), ({"gpus": 0.5}, 4), ({"gpus": 4}, 0)],
)
def test_so_many_workers_may_meet_on_a_node(engine: dict[str, float], most: int) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert most_on_a_node(nodes, EngineSpec(name="ray", **engine)) == most


def test_a_cluster_that_is_not_there_is_told(
    open_study: Callable[..., Study], text: str, folder: StudyFolder
) -> None:
    nowhere = text.replace("name: inline", 'name: ray, address: "127.0.0.1:1"')
    with pytest.raises(ExternalError, match=r"No Ray cluster at 127\.0\.0\.1:1"):
        run_study(open_study(nowhere), folder)

"""Ray: a real cluster of two nodes, one of them killed midway; the same table as elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.study.export import evaluation_table
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.ray_engine import most_on_a_node
from lm_eval_trust.study.run import run_study
from lm_eval_trust.study.spec import EngineSpec

pytest.importorskip("ray")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of a head without room for workers, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_killed_node_changes_nothing(
    cluster: Any, open_study: Callable[..., Study], text: str, folder: StudyFolder, tmp_path: Path
) -> None:
    small = text.replace("[probes, vectors]", "[activations]")
    small = small.replace("layers: [1, 2], alphas: [0, 4]", "layers: [2], alphas: [0, 4]")
    other = StudyFolder(tmp_path / "undisturbed")
    assert run_study(open_study(small), other).exit_code == 0
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    at_ray = small.replace("name: inline", f'name: ray, workers: 2, address: "{cluster.address}"')
    study = open_study(at_ray)

    def kill() -> None:
        while not list(folder.path.glob("cells/*/*")):
            time.sleep(0.02)
        cluster.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run_study(study, folder)
    killer.join()
    assert outcome.failed == {} and outcome.exit_code == 0
    tables = [evaluation_table(study.grid(), f).to_csv() for f in (folder, other)]
    assert tables[0] == tables[1]


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

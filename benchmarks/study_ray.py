"""The same study by local processes, and by Ray on two nodes of which one is killed midway.

    python benchmarks/study_ray.py [STUDY.yaml]

Without a file it is a study of twelve random Llamas; docs/studies has those of the embedded family.
Every table and figure must be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster
from study_family import exported, write_study

from lm_eval_trust.cli import main as command

CHECKPOINTS = 12


def run(study: Path, out: Path, *engine: str) -> float:
    """Run a study; return the seconds."""
    before = time.monotonic()
    assert command(["study", str(study), "--out", str(out), *engine]) == 0
    return time.monotonic() - before


def main() -> None:
    """Run, kill a node, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", nargs="?", type=Path, metavar="STUDY.yaml")
    given: Path | None = parser.parse_args().study
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        study = given or write_study(place, CHECKPOINTS)
        seconds = run(study, place / "local", "--engine", "local", "--workers", "2")
        print(f"local, 2 workers: {seconds:.0f} s", flush=True)
        cells = len(list((place / "local").glob("cells/*/*/cell.json")))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        out = place / "ray"

        def kill() -> None:
            while len(list(out.glob("cells/*/*/cell.json"))) < cells // 3:
                time.sleep(0.02)
            cluster.remove_node(nodes[0], allow_graceful=False)
            done = len(list(out.glob("cells/*/*/cell.json")))
            print(f"a node is killed after {done} of {cells} cells", flush=True)

        killer = threading.Thread(target=kill)
        killer.start()
        address = ["--engine", "ray", "--workers", "2", "--address", cluster.address]
        seconds = run(study, out, *address)
        killer.join()
        cluster.shutdown()
        print(f"ray, 2 nodes, one killed: {seconds:.0f} s", flush=True)
        files = exported(place / "local")
        assert exported(out) == files
        print(f"all {len(files)} exported files are the same")


if __name__ == "__main__":
    main()

"""A study of checkpoints that a Hub on localhost serves slowly and with faults, on a disk for two.

    python benchmarks/study_streaming.py

Samples the folder of checkpoints every 20 ms: it never exceeds the budget. Downloads and computing
overlap: the wall time is at most 1.15 times the longer of their sums. All exported files are byte
for byte those of a run without faults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

CHECKPOINTS, BYTES_PER_SECOND = 14, 2_000_000
STUDY = """
study: streaming
family: {{hub: lab/run, pattern: "step(?P<step>[0-9]+)"}}
dimensions: [reliability, fairness]
data: {{source: mini, statements: {statements}}}
layers: 0+4
compute: [activations, probes, vectors]
evaluations:
  - {{name: plain, models: checkpoints, tasks: [trust_stereoset_mini], limit: 4}}
budget: {{disk: {disk} B, checkpoints: 2}}
engine: {{name: local, workers: 1, threads: 1}}
"""


def faults() -> list[Any]:
    """What goes wrong, beside that everything is slow."""
    from support.hub import ALWAYS, Fault

    slow = {"bytes_per_second": BYTES_PER_SECOND}
    return [
        Fault("*/step1/config.json", status=429, retry_after="1"),
        Fault("*/step2/model.safetensors", status=500),
        Fault("/cdn/*/model.safetensors", times=2, cut_at=5_000_000, **slow),
        Fault("/cdn/*/model.safetensors", wrong=True, **slow),
        Fault("/api/models/lab/run/revision/step5", silence=2.0),
        Fault("*", times=ALWAYS, **slow),
    ]


class Sampler(threading.Thread):
    """Measures a folder every 20 ms."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.peak = self.samples = 0
        self._folder, self._over = folder, threading.Event()

    def run(self) -> None:
        """Measure until told to stop."""
        while not self._over.wait(0.02):
            size = 0
            for root, _, names in os.walk(self._folder):
                for name in names:
                    try:
                        size += os.stat(os.path.join(root, name)).st_size
                    except OSError:
                        continue
            self.peak = max(self.peak, size)
            self.samples += 1

    def stop(self) -> None:
        """Stop measuring."""
        self._over.set()
        self.join()


def main() -> None:
    """Serve, run twice, and compare."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    # Here, since workers import this file as well, and the tests' support forbids the Hub.
    from support.hub import Repository, files_of, hub_server

    with tempfile.TemporaryDirectory() as name, hub_server() as hub:
        place = Path(name)
        # Before anything reads them.
        os.environ["HF_ENDPOINT"] = hub.address
        os.environ["HF_HUB_OFFLINE"] = "0"
        from study_family import exported, save_llama

        from lm_eval_trust.cli import main as command

        revisions = {}
        for number in range(CHECKPOINTS):
            folder = save_llama(place / f"m{number}", number, hidden=256, layers=8)
            revisions[f"step{number}"] = files_of(folder)
        hub.models["lab/run"] = Repository(revisions)
        size = sum(len(content) for content in revisions["step0"].values())
        budget = 2 * size + 10_000
        file = place / "study.yaml"
        file.write_text(STUDY.format(disk=budget, statements=200), encoding="utf-8")
        print(f"{CHECKPOINTS} checkpoints of {size / 1e6:.1f} MB, budget {budget / 1e6:.1f} MB")
        assert command(["study", str(file), "--out", str(place / "calm")]) == 0
        hub.faults = faults()
        sampler = Sampler(place / "out" / "checkpoints")
        sampler.start()
        before = time.monotonic()
        assert command(["study", str(file), "--out", str(place / "out")]) == 0
        whole = time.monotonic() - before
        sampler.stop()
        report(place / "out", sampler, budget, whole)
        assert exported(place / "out") == exported(place / "calm")
        print(
            f"all {len(exported(place / 'out'))} exported files are those of the run without faults"
        )


def report(out: Path, sampler: Sampler, budget: int, whole: float) -> None:
    """Print and judge what was measured."""
    run = json.loads((out / "runs.jsonl").read_text().splitlines()[-1])
    sums = run["download_seconds"], run["compute_seconds"]
    ratio = run["wall_seconds"] / max(sums)
    print(f"peak {sampler.peak / 1e6:.1f} MB in {sampler.samples} samples")
    print(f"downloads {sums[0]:.1f} s, computing {sums[1]:.1f} s, together {sum(sums):.1f} s")
    print(f"wall {run['wall_seconds']:.1f} s ({whole:.1f} s with the export), {ratio:.3f} of max")
    assert 0 < sampler.peak <= budget
    assert ratio <= 1.15


if __name__ == "__main__":
    main()

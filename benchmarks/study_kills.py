"""A study is killed with -9 at twenty random moments: it goes on, and ends with the same tables.

    python benchmarks/study_kills.py [SEED]

Every kill takes the whole process group, driver and workers. After each, all cells that were
finished must be the very same files; at the end, every table and figure must be byte for byte that
of an undisturbed run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study_family import exported, write_study

KILLS, CHECKPOINTS = 20, 24
#: Share of an undisturbed run's time after which a run is killed at the latest.
LATEST = 0.35
_RUN = "import sys; from lm_eval_trust.cli import main; sys.exit(main(sys.argv[1:]))"


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a run with two workers in a process group of its own."""
    command = ["study", str(study), "--out", str(out), "--engine", "local", "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, *command],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each finished cell's record."""
    records = out.glob("cells/*/*/cell.json")
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in records}


def main() -> None:
    """Kill, and compare."""
    draw = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        study = write_study(place, CHECKPOINTS)
        undisturbed = place / "undisturbed"
        before = time.monotonic()
        assert start(study, undisturbed).wait() == 0
        whole = time.monotonic() - before
        print(f"undisturbed: {len(finished(undisturbed))} cells in {whole:.0f} s", flush=True)
        expected, kills, rounds = exported(undisturbed), 0, 0
        while kills < KILLS:
            out, kept = place / f"killed-{rounds}", {}
            rounds += 1
            while True:
                run = start(study, out)
                wait = draw.uniform(0, LATEST * whole) if kills < KILLS else None
                try:
                    assert run.wait(wait) == 0
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(run.pid, signal.SIGKILL)
                    run.wait()
                kills += 1
                now = finished(out)
                assert all(now.get(cell) == record for cell, record in kept.items())
                print(f"kill {kills} after {wait:.1f} s: {len(now)} cells", flush=True)
                kept = now
            last = finished(out)
            assert all(last[cell] == record for cell, record in kept.items())
            assert exported(out) == expected
            print(f"round {rounds}: all {len(expected)} exported files are the same", flush=True)


if __name__ == "__main__":
    main()

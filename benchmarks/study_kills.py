"""A study is killed with -9 at twenty random moments: it resumes, and ends with the same tables.

    python benchmarks/study_kills.py [--seed N] [--kills N] [--flow]

With ``--flow`` the study is of a family of three stages, whose probes and vectors are applied to
each other, and whose own directions are erased. Every kill takes the whole process group, driver
and workers. After each, all cells that were finished must be the very same files; at the end, every
table and figure must be byte for byte that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study_family import exported, write_flow, write_study

CHECKPOINTS, OF_FLOW = 24, 6
#: Latest kill of a run: seconds after its start (mostly imports), or number of new cells.
STARTING, NEW_CELLS = 15.0, 25
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


def moment(draw: random.Random, out: Path, run: subprocess.Popen[bytes]) -> str | None:
    """Wait for a random moment; return which, or ``None`` if the run ends before it comes."""
    before, kind = len(finished(out)), draw.random()
    if kind < 0.2:
        seconds = draw.uniform(0, STARTING)
        return None if ended_within(run, seconds) else f"{seconds:.1f} s after the start"
    new, pause = draw.randint(1, NEW_CELLS), draw.uniform(0, 0.5)
    while run.poll() is None:
        if len(finished(out)) >= before + new:
            return None if ended_within(run, pause) else f"{new} new cells and {pause:.2f} s"
        if (out / "export").exists():
            pause = draw.uniform(0, 10)
            return None if ended_within(run, pause) else f"{pause:.1f} s into the export"
        time.sleep(0.005)
    return None


def ended_within(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Tell whether a run ends within some time."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def main() -> None:
    """Kill, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flow", action="store_true")
    args = parser.parse_args()
    draw, wanted = random.Random(args.seed), args.kills
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        study = write_flow(place, OF_FLOW) if args.flow else write_study(place, CHECKPOINTS)
        undisturbed = place / "undisturbed"
        assert start(study, undisturbed).wait() == 0
        expected, kills, rounds = exported(undisturbed), 0, 0
        print(f"undisturbed: {len(finished(undisturbed))} cells", flush=True)
        while kills < wanted:
            out, kept = place / f"killed-{rounds}", {}
            rounds += 1
            while kills < wanted:
                run = start(study, out)
                when = moment(draw, out, run)
                if when is None:
                    break
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                kills += 1
                now = finished(out)
                assert all(now.get(cell) == record for cell, record in kept.items())
                print(f"kill {kills}, {when}: {len(now)} cells", flush=True)
                kept = now
            else:
                run = start(study, out)
            assert run.wait() == 0
            last = finished(out)
            assert all(last[cell] == record for cell, record in kept.items())
            assert exported(out) == expected
            print(f"round {rounds}: all {len(expected)} exported files are the same", flush=True)


if __name__ == "__main__":
    main()

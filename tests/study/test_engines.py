"""Local processes: killed workers and drivers, orphans; the same tables in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.export import evaluation_table
from lm_eval_trust.study.folder import RECORD, StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.run import run_study

Open = Callable[..., Study]
_RUN = "import sys; from lm_eval_trust.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def small(text: str) -> str:
    """The study without figures to draw, which take longer than its cells."""
    return text.replace("[probes, vectors]", "[activations]").replace(
        "layers: [1, 2], alphas: [0, 4]", "layers: [2], alphas: [0, 4]"
    )


@pytest.fixture
def undisturbed(open_study: Open, small: str, tmp_path: Path) -> str:
    """The table of a run in this process."""
    study, folder = open_study(small), StudyFolder(tmp_path / "undisturbed")
    assert run_study(study, folder).exit_code == 0
    return table(study, folder)


def table(study: Study, folder: StudyFolder) -> str:
    text: str = evaluation_table(study.grid(), folder).to_csv()
    return text


def records(folder: StudyFolder) -> dict[Path, int]:
    """The inode of each finished cell's record: another one was computed anew."""
    return {path: path.stat().st_ino for path in folder.path.glob(f"cells/*/*/{RECORD}")}


def workers_of(parent: int) -> list[int]:
    """Spawned processes whose parent is this one, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(state[1]) == parent and b"spawn_main" in command:
            found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_change_nothing(
    open_study: Open,
    write: Callable[[str], Path],
    small: str,
    folder: StudyFolder,
    undisturbed: str,
) -> None:
    file = write(small.replace("name: inline", "name: local"))
    command = ["study", str(file), "--out", str(folder.path)]
    driver = subprocess.Popen(
        [sys.executable, "-c", _RUN, *command], env={**os.environ}, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: records(folder))
    (worker,) = workers_of(driver.pid)
    os.kill(worker, signal.SIGKILL)
    before = records(folder)
    # Another worker takes its place, and leaves what was finished.
    wait_for(lambda: len(records(folder)) > len(before))
    (worker,) = workers_of(driver.pid)
    driver.kill()
    driver.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 3)
    kept = records(folder)
    study = open_study(small)
    assert before.items() <= kept.items() and len(kept) < len(study.grid().cells)
    assert run_study(study, folder).found == len(kept)
    assert kept.items() <= records(folder).items()
    assert table(study, folder) == undisturbed


def test_an_unknown_engine_is_told(open_study: Open, small: str, folder: StudyFolder) -> None:
    with pytest.raises(InputError, match=r"Unknown engine 'locale'.*'local'"):
        run_study(open_study(small, "locale"), folder)


def test_ray_that_is_not_installed_is_told(
    open_study: Open, small: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'lm-eval-trust\[ray\]'"):
        run_study(open_study(small, "ray"), folder)

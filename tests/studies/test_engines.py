"""Local processes: killed workers and drivers, orphans; the same tables in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.errors import InputError
from lm_eval_trust.studies.evaluations import evaluation_table
from lm_eval_trust.studies.folder import RECORD, StudyFolder
from lm_eval_trust.studies.grid import Study
from lm_eval_trust.studies.run import run_study

Open = Callable[..., Study]
_RUN = "import sys; from lm_eval_trust.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def small(text: str) -> str:
    """The study without figures to draw, which take longer than its cells."""
    return text.replace("[probes, information, vectors]", "[activations]").replace(
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


def children(parent: int) -> list[int]:
    """Processes whose parent is this one, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after_name[1]) == parent and after_name[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)


def test_a_killed_worker_s_job_is_done_by_another_one(
    open_study: Open, small: str, folder: StudyFolder, undisturbed: str
) -> None:
    study = open_study(small, "local", 1)
    before = set(children(os.getpid()))

    def kill() -> None:
        wait_for(lambda: list(folder.path.glob("cells/*/*")))
        for child in set(children(os.getpid())) - before:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run_study(study, folder)
    killer.join()
    assert outcome.exit_code == 0 and outcome.failed == {}
    assert table(study, folder) == undisturbed


def test_a_killed_driver_leaves_no_orphans_and_the_next_run_goes_on(
    open_study: Open,
    write: Callable[[str], Path],
    small: str,
    folder: StudyFolder,
    undisturbed: str,
) -> None:
    study = open_study(small, "local", 1)
    file = write(small.replace("name: inline", "name: local"))
    command = ["study", str(file), "--out", str(folder.path)]
    driver = subprocess.Popen(
        [sys.executable, "-c", _RUN, *command], env={**os.environ}, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: list(folder.path.glob("cells/*/*")))
    workers = children(driver.pid)
    assert workers
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 3)
    kept = {path: path.stat().st_ino for path in folder.path.glob(f"cells/*/*/{RECORD}")}
    assert 0 < len(kept) < len(study.grid().cells)
    assert run_study(open_study(small), folder).found == len(kept)
    assert all(path.stat().st_ino == inode for path, inode in kept.items())
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

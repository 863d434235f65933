"""Files are whole or absent: after errors, on a full disk, after a kill, with two builders."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.storage import (
    CACHE_VARIABLE,
    atomic_folder,
    atomic_path,
    build_once,
    cache_dir,
)


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "chosen")
    assert cache_dir() == Path("chosen")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_dir().name == "lm_eval_trust"


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_may_be_read_by_whom_the_process_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_so_may_a_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with atomic_folder(tmp_path / "atomic") as temporary:
        (temporary / "file").write_text("whole")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(KeyError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_explained_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    target = tmp_path / "file"
    with pytest.raises(ExternalError, match=r"Cannot write .*file: No space left on device"):
        build_once(target, lambda path: path.write_text("half"))
    assert not target.exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ExternalError, match="Cannot write"):
        build_once(tmp_path / "file" / "entry", lambda path: None)


def test_what_exists_is_not_built_again(tmp_path: Path) -> None:
    target = tmp_path / "file"
    build_once(target, lambda path: path.write_text("first"))
    build_once(target, lambda path: pytest.fail("built twice"))
    assert target.read_text() == "first"


def test_a_build_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(ZeroDivisionError):
        build_once(target, lambda path: path.write_text(str(1 // 0)))
    build_once(target, lambda path: path.write_text("second"))
    assert target.read_text() == "second"


BUILDER = """
import sys, time
from pathlib import Path
from lm_eval_trust.core.storage import build_once
target, log = Path(sys.argv[1]), Path(sys.argv[2])
def build(path):
    with log.open("a") as lines:
        lines.write("built\\n")
    path.write_text("half")
    time.sleep(float(sys.argv[3]))
    path.write_text("whole")
print(build_once(target, build).read_text())
"""


def builder(target: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(target), str(log), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_build_an_entry_once(tmp_path: Path) -> None:
    target, log = tmp_path / "entry", tmp_path / "log"
    both = [builder(target, log, 1.0) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["whole", "whole"]
    assert log.read_text() == "built\n"


def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    target, log = tmp_path / "entry", tmp_path / "log"
    process = builder(target, log, 60.0)
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not target.exists()
    assert builder(target, log, 0.0).communicate(timeout=60)[0].strip() == "whole"

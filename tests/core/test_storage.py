"""Files are whole or absent: after errors, on a full disk, after a kill, with two builders."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.core import storage
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.storage import (
    CACHE_VARIABLE,
    atomic_folder,
    atomic_path,
    build_once,
    cache_dir,
    claim_folder,
    folder_lock,
    read_kept,
    write_kept,
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


def test_a_folder_that_may_not_be_entered_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(ExternalError, match=r"Permission denied.*LM_EVAL_TRUST_CACHE"):
        build_once(tmp_path / "entry", lambda path: None)


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
    assert [process.communicate(timeout=300)[0].strip() for process in both] == ["whole", "whole"]
    assert log.read_text() == "built\n"


def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    target, log = tmp_path / "entry", tmp_path / "log"
    process = builder(target, log, 60.0)
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=300)
    assert not target.exists()
    assert builder(target, log, 0.0).communicate(timeout=300)[0].strip() == "whole"


def test_a_kill_while_a_folder_is_replaced_loses_neither(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "file").write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from lm_eval_trust.core.storage import atomic_folder\n"
        "def die(self, other): os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.replace = die\n"
        "with atomic_folder(Path(sys.argv[1])) as new: (new / 'file').write_text('new')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(p.read_text() for p in tmp_path.rglob("file")) == ["new", "old"]
    with pytest.raises(KeyError), atomic_folder(target):
        assert (target / "file").read_text() == "old"
        raise KeyError
    assert list(tmp_path.iterdir()) == [target]


WRITER = """
import sys, time
from pathlib import Path
from lm_eval_trust.core import storage
with getattr(storage, sys.argv[1])(Path(sys.argv[2])) as temporary:
    (temporary if temporary.is_file() else temporary / "file").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder", "temporary_folder"])
def test_the_next_write_removes_what_a_kill_left_and_nothing_else(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "out"
    others = [tmp_path / ".out.of-another.tmp", tmp_path / ".output.0123abcd.tmp"]
    for other in others:
        other.touch()
    words = [sys.executable, "-c", WRITER, kind, str(target)]
    killed, at_work = (subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2))
    try:
        for process in (killed, at_work):
            assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".out.????????.tmp"))) == 2
        with getattr(storage, kind)(target):
            pass
        # What the other process is writing stays until it is killed as well.
        assert len(list(tmp_path.glob(".out.????????.tmp"))) == 1
    finally:
        at_work.kill()
        at_work.communicate()
        killed.communicate()
    storage.remove_abandoned(target)
    made = [] if kind == "temporary_folder" else [target]
    assert sorted(tmp_path.iterdir()) == sorted([*others, *made])


def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "file").write_text("old")

    def refuse(self: Path, other: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ExternalError, match="No space left"), atomic_folder(target) as temporary:
        (temporary / "file").write_text("new")
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "held", "busy"),
        pytest.raises(InputError, match=r"^Another run is at work$"),
        folder_lock(tmp_path / "held", "Another run is at work"),
    ):
        pass
    with folder_lock(tmp_path / "held", "busy"):
        pass


def test_an_output_of_several_files_is_written_by_one_process_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with storage.written_by_one(tmp_path):
            (tmp_path / "file").touch()

    other = threading.Thread(target=write)
    with storage.written_by_one(tmp_path):
        other.start()
        time.sleep(0.2)
        assert not (tmp_path / "file").exists()
        monkeypatch.setattr(storage, "_PATIENCE", 0.0)
        with pytest.raises(InputError, match="Another process is writing into"):
            write()
    other.join(timeout=300)
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("content", [{"score": 0.5, "text": "a\u2028b\ud800"}, [1, None], "text"])
def test_a_kept_result_comes_back(tmp_path: Path, content: object) -> None:
    write_kept(tmp_path / "kept.json", content)
    assert read_kept(tmp_path / "kept.json") == content
    assert json.loads((tmp_path / "kept.json").read_text())["content"] == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.5", "0.9"),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "null",
        lambda text: '{"score": 0.5}',
        lambda text: "\udcff" + text,
    ],
)
def test_a_changed_result_counts_as_absent(
    tmp_path: Path, damage: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "kept.json"
    write_kept(file, {"score": 0.5})
    file.write_bytes(damage(file.read_text()).encode("utf-8", "surrogateescape"))
    assert read_kept(file) is None
    assert str(file) in caplog.text


def test_a_result_that_was_never_kept_is_absent_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_kept(tmp_path / "absent.json") is None
    assert not caplog.text


def test_a_damaged_file_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(path: Path) -> int:
        try:
            return int(path.read_text())
        except ValueError as error:
            raise InputError(str(error)) from error

    file = tmp_path / "number"
    builds = []

    def build(path: Path) -> None:
        builds.append(path)
        path.write_text("7")

    assert build_once(file, build, read=read) == 7
    assert build_once(file, build, read=read) == 7
    assert len(builds) == 1
    file.write_text("seven")
    assert build_once(file, build, read=read) == 7
    assert len(builds) == 2
    assert str(file) in caplog.text


def test_a_folder_is_claimed_by_a_command_and_by_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "report.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds report\.csv, which `lm-eval-trust board`"):
        claim_folder(tmp_path, "board", ["report.csv"])
    claim_folder(tmp_path, "board", ["other.csv"])
    claim_folder(tmp_path, "board", ["report.csv"])
    with pytest.raises(InputError, match="is a file"):
        claim_folder(tmp_path / "report.csv", "board", [])

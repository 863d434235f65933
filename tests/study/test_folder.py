"""Cells are whole or absent, once each, and one run at a time works on them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.storage import LOCK
from lm_eval_trust.study.cells import ActivationCell, StatementChoice
from lm_eval_trust.study.folder import RECORD, StudyFolder
from lm_eval_trust.study.models import StudyModel

MODEL = StudyModel("ckpt_001", "m", None, 1, 10, "m@1")
CELL = ActivationCell(
    MODEL, "fairness", StatementChoice("official", 0, "grouped", 0, 9), (0,), "float32"
)


def write(out: Path) -> Mapping[str, Any]:
    (out / "deep").mkdir()
    (out / "deep" / "values.txt").write_text("42")
    return {"answer": 42}


def test_a_cell_comes_back_as_it_was_written(folder: StudyFolder) -> None:
    assert folder.record(CELL) is None
    assert folder.publish(CELL, write) >= 0
    record = folder.record(CELL)
    assert record is not None and record["result"] == {"answer": 42}
    digest = hashlib.sha256(b"42").hexdigest()
    assert record["files"] == {"deep/values.txt": [2, digest]}
    assert record["recipe"] == json.loads(json.dumps(CELL.recipe()))
    assert folder.cell(CELL).name.startswith("ckpt_001-fairness-seed0-")


def test_a_cell_that_raises_leaves_nothing(folder: StudyFolder) -> None:
    def fail(out: Path) -> Mapping[str, Any]:
        write(out)
        raise InputError("planted")

    with pytest.raises(InputError, match="planted"):
        folder.publish(CELL, fail)
    assert folder.record(CELL) is None
    assert not [path for path in folder.path.rglob("*") if path.is_file()]


def test_a_second_worker_s_same_cell_changes_nothing(folder: StudyFolder) -> None:
    folder.publish(CELL, write)
    before = (folder.cell(CELL) / RECORD).stat().st_ino

    def other(out: Path) -> Mapping[str, Any]:
        return {"answer": 43}

    folder.publish(CELL, other)
    record = folder.record(CELL)
    assert record is not None and record["result"] == {"answer": 42}
    assert (folder.cell(CELL) / RECORD).stat().st_ino == before


@pytest.mark.parametrize(
    ("file", "content"),
    [(RECORD, "{"), (RECORD, "[]"), (RECORD, "{}"), ("deep/values.txt", "longer than before")],
)
def test_a_damaged_cell_is_not_taken_and_makes_room(
    file: str, content: str, folder: StudyFolder
) -> None:
    folder.publish(CELL, write)
    (folder.cell(CELL) / file).write_text(content)
    assert folder.record(CELL) is None
    folder.recover({CELL.name: CELL})
    folder.publish(CELL, write)
    assert folder.record(CELL) is not None


def test_success_takes_back_a_failure(folder: StudyFolder) -> None:
    folder.fail(CELL, "no luck", 3)
    failure = folder.failure(CELL)
    assert failure is not None and failure["message"] == "no luck"
    folder.publish(CELL, write)
    assert folder.failure(CELL) is None


def test_a_folder_of_another_study_is_refused(folder: StudyFolder, tmp_path: Path) -> None:
    folder.bind("first")
    folder.check("first")
    with pytest.raises(InputError, match="holds the study 'first', not 'second'"):
        folder.check("second")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "letter.txt").touch()
    with pytest.raises(InputError, match=r"holds letter\.txt and is not a study's folder"):
        StudyFolder(tmp_path / "notes").check("first")
    with pytest.raises(InputError, match="is a file"):
        StudyFolder(tmp_path / "notes" / "letter.txt").check("first")


#: Holds the lock as a run does, without importing all that a run needs.
_HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_run_is_kept_away_until_the_first_is_killed(folder: StudyFolder) -> None:
    folder.path.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder.path / LOCK)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="Another run is at work"), folder.lock():
        pass
    holder.kill()
    holder.wait()
    with folder.lock():
        pass


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExternalError, match="Cannot write"):
        StudyFolder(tmp_path / "file" / "below").publish(CELL, write)


def test_a_changed_file_is_computed_again(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.publish(CELL, write)
    (folder.cell(CELL) / "deep" / "values.txt").write_text("43")
    assert folder.record(CELL) is None
    assert "values.txt was changed since it was computed" in caplog.text
    folder.recover({CELL.name: CELL})
    folder.publish(CELL, write)
    assert folder.record(CELL) is not None


def test_a_changed_record_is_computed_again(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.publish(CELL, write)
    file = folder.cell(CELL) / RECORD
    file.write_text(file.read_text().replace('"answer": 42', '"answer": 43'))
    assert folder.record(CELL) is None
    assert "was changed since it was written" in caplog.text


def test_a_changed_large_file_is_noticed_when_it_is_used(folder: StudyFolder) -> None:
    def write_much(out: Path) -> Mapping[str, Any]:
        (out / "large.bin").write_bytes(bytes(5 << 20))
        return {}

    folder.publish(CELL, write_much)
    assert folder.verify(CELL) == folder.cell(CELL)
    with (folder.cell(CELL) / "large.bin").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(ExternalError, match=r"large\.bin was changed since it was computed"):
        folder.verify(CELL)
    assert folder.record(CELL) is None


def test_a_folder_of_an_earlier_release_is_refused(folder: StudyFolder) -> None:
    folder.bind("s")
    folder.check("s")
    (folder.path / "study.json").write_text('{"study": "s"}')
    with pytest.raises(InputError, match="a study of an earlier release"):
        folder.check("s")

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.events import read_scalars

from lm_eval_trust.core import run_log
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.run_log import log_scalars, logging_to


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    with logging_to(f"tensorboard:{tmp_path}", "run", {"alpha": 2}):
        log_scalars({"sweep/score": 0.5, "sweep/kl": None}, 0)
        log_scalars({"sweep/score": 0.75, "sweep/kl": math.nan}, 3)
    assert read_scalars(tmp_path / "run") == {"sweep/score": [(0, 0.5), (3, 0.75)]}


def test_without_a_log_nothing_happens(tmp_path: Path) -> None:
    log_scalars({"x": 1.0}, 0)
    with logging_to(None, "run", {}):
        log_scalars({"x": 1.0}, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tensorbord:x", "Did you mean 'tensorboard'"),
        ("wandb", "wandb:PROJECT"),
        ("tensorboard:", "tensorboard:FOLDER"),
    ],
)
def test_targets_of_another_form(target: str, said: str) -> None:
    with pytest.raises(InputError, match=said), logging_to(target, "run", {}):
        pass


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "find_spec", lambda name: None)
    with (
        pytest.raises(InputError, match=r"pip install 'lm_eval_trust\[wandb\]'"),
        logging_to("wandb:tides", "run", {}),
    ):
        pass


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with (
        pytest.raises(ExternalError, match="Cannot log"),
        logging_to(f"tensorboard:{file}", "r", {}),
    ):
        pass


def test_a_log_that_fails_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def write(self, values: object, step: int) -> None:
            raise OSError("disk full")

        def close(self) -> None:
            raise AssertionError("closed after it failed")

    with logging_to(f"tensorboard:{tmp_path}", "run", {}):
        run_log._open[0] = Broken()  # type: ignore[assignment]
        log_scalars({"x": 1.0}, 0)
        log_scalars({"x": 2.0}, 1)
    assert caplog.text.count("disk full") == 1


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs `pip install 'lm_eval_trust[wandb]'`")
    # W&B starts a process of its own, which a test should not leave behind in this one.
    program = (
        "from lm_eval_trust.core.run_log import log_scalars, logging_to\n"
        "with logging_to('wandb:tides', 'sweep', {'alpha': 2.5}):\n"
        "    log_scalars({'study/score': 0.25}, 7)\n"
        "    log_scalars({'study/score': 0.75}, 3)\n"
    )
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment |= {"WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=tmp_path)
    (file,) = tmp_path.rglob("*.wandb")
    history = read_history(file)
    assert [(row["step"], row["study/score"]) for row in history] == [("7", "0.25"), ("3", "0.75")]


def read_history(file: Path) -> list[dict[str, str]]:
    """Return the rows of W&B's own file, values as JSON."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for data in records(file.read_bytes()[7:]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            found.append({(i.key or "/".join(i.nested_key)): i.value_json for i in items})
    return found


def records(content: bytes, block: int = 32768) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format: checksum, length, kind, data.

    The file's own head of seven bytes belongs to the first block.
    """
    position, parts = 0, b""
    while position + 7 <= len(content):
        left = block - (position + 7) % block
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # A whole record, or the last part of one.
            yield parts
            parts = b""

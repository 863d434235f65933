"""Digests of files: right after every change, and without a second reading."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lm_eval_trust.core import file_digest as module
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.file_digest import file_digest, file_digests


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_digests", {})
    monkeypatch.setattr(module, "LARGE", 1000)


def settled(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose last change is long ago."""
    path.write_bytes(content)
    monkeypatch.setattr(module, "_is_settled", lambda state: True)
    return path


def test_the_digest_is_that_of_all_bytes(tmp_path: Path) -> None:
    contents = {tmp_path / str(size): os.urandom(size) for size in (0, 1, (1 << 20) + 1, 3 << 20)}
    for path, content in contents.items():
        path.write_bytes(content)
    expected = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    assert file_digests(contents) == expected


@pytest.mark.parametrize("size", [10, 5000])
def test_a_file_is_read_once_for_each_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = settled(tmp_path / "weights", b"a" * size, monkeypatch)
    first = file_digest(path)
    with monkeypatch.context() as blind:
        blind.setattr(module, "_read", None)
        assert file_digest(path) == first
    before = path.stat()
    path.write_bytes(b"b" * size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Size, inode and time of change of the content are as before.
    assert file_digest(path) == hashlib.sha256(b"b" * size).hexdigest()


def test_the_next_process_reads_no_large_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "weights", b"a" * 5000, monkeypatch)
    first = file_digest(path)
    monkeypatch.setattr(module, "_digests", {})
    monkeypatch.setattr(module, "_read", None)
    assert file_digest(path) == first


def test_what_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 5000)
    file_digest(path)
    assert not module._digests


def test_without_a_cache_folder_files_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    path = settled(tmp_path / "weights", b"a" * 5000, monkeypatch)
    assert file_digest(path) == hashlib.sha256(b"a" * 5000).hexdigest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match=r"Cannot read .*absent"):
        file_digest(tmp_path / "absent")

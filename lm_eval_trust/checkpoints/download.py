"""Fetch a file of the Hub: resumed where it stopped, checked, and whole or absent.

The Hub's own client is not used for this. It starts a file again in every process, checks its size
but not its checksum, and keeps a cache next to the folder it writes to.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from lm_eval_trust.checkpoints.listing import HubFile
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.retry import Cancelled, RetryPolicy, TruncatedResponseError, retry

#: What the name of a file ends in until all of it has come and its checksum is right.
PARTIAL = ".part"
_TRIES_OF_WRONG_BYTES = 3
_BLOCK = 1 << 20
#: Bytes per second below which a connection counts as lost, and bytes of a failed attempt that
#: count as progress: a server that drips is not waited for without end.
_SLOWEST = 1 << 10
_PROGRESS = 1 << 14


class WrongBytesError(Exception):
    """What came is not the file."""


class PartialFile:
    """What has come of a file so far, with its checksum kept along.

    Attributes:
        size: Bytes that have come.
    """

    def __init__(self, path: Path, file: HubFile) -> None:
        """Open what is there from before, or start with nothing.

        Args:
            path: Where the bytes go.
            file: What they are to become.
        """
        self._path, self._file = path, file
        self._stream = path.open("a+b", buffering=0)
        self._checksum = _new_checksum(file)
        self.size = 0
        self._stream.seek(0)
        while block := self._stream.read(_BLOCK):
            self._count(block)
        if self.size > file.size:
            self.restart()

    def write(self, block: bytes) -> None:
        """Append a block.

        Raises:
            WrongBytesError: The file would become larger than it is.
        """
        if self.size + len(block) > self._file.size:
            raise WrongBytesError
        self._stream.write(block)
        self._count(block)

    def _count(self, block: bytes) -> None:
        self._checksum.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Throw away what has come."""
        self._stream.truncate(0)
        self._checksum = _new_checksum(self._file)
        self.size = 0

    def check(self) -> None:
        """Raise :class:`WrongBytesError` unless the checksum is right."""
        if self._checksum.hexdigest() != self._file.checksum:
            raise WrongBytesError

    def finish(self, target: Path) -> None:
        """Give the file its name, once its bytes are on the disk."""
        os.fsync(self._stream.fileno())
        self._path.replace(target)

    def close(self) -> None:
        """Close the file, finished or not."""
        self._stream.close()


def download(
    url: str, file: HubFile, target: Path, policy: RetryPolicy, stop: threading.Event
) -> None:
    """Fetch a file.

    Args:
        url: Where the Hub has it.
        file: Its size and checksum.
        target: Where it goes; until it is whole, it has a name with ``.part``.
        policy: When to give up.
        stop: Ends the download; what has come stays.

    Raises:
        Cancelled: ``stop`` was set.
        ExternalError: The bytes are wrong time after time.
        Exception: What the Hub's client raises when the Hub refuses, or stays silent.
    """
    with _partial(target.with_name(target.name + PARTIAL), file) as partial:
        for _ in range(_TRIES_OF_WRONG_BYTES):
            try:
                retry(
                    lambda: _go_on(url, file, partial, policy.timeout, stop),
                    policy,
                    stop,
                    progress=lambda: partial.size // _PROGRESS,
                )
                partial.check()
            except WrongBytesError:
                partial.restart()
            else:
                partial.finish(target)
                return
    raise ExternalError(
        f"{url} sent other bytes than its checksum {file.checksum} stands for, "
        f"{_TRIES_OF_WRONG_BYTES} times over. Nothing of it was kept; is there a proxy between?"
    )


def _go_on(
    url: str, file: HubFile, partial: PartialFile, timeout: float, stop: threading.Event
) -> None:
    """Ask for the bytes that are missing, and write them as they come."""
    if partial.size == file.size:
        return
    # Compressed on the way, bytes could not be counted off against the file's.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if partial.size:
        headers["Range"] = f"bytes={partial.size}-"
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if partial.size and response.status_code != 206:
            partial.restart()
        began, before = time.monotonic(), partial.size
        for block in response.iter_bytes():
            if stop.is_set():
                raise Cancelled
            partial.write(block)
            if (seconds := time.monotonic() - began) > timeout:
                if partial.size - before < _SLOWEST * seconds:
                    raise TruncatedResponseError(
                        f"{url} sent {partial.size - before} bytes in {seconds:.0f} seconds"
                    )
                began, before = time.monotonic(), partial.size
    if partial.size < file.size:
        raise TruncatedResponseError(f"{url} ended after {partial.size} of {file.size} bytes")


@contextmanager
def _partial(path: Path, file: HubFile) -> Iterator[PartialFile]:
    partial = PartialFile(path, file)
    try:
        yield partial
    finally:
        partial.close()


def _new_checksum(file: HubFile) -> hashlib._Hash:
    if file.method == "sha256":
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

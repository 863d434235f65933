"""The content of files as SHA-256, read once for each state of a file.

A file's state is its device, inode, size and times of change. Digests of large files are kept in
the cache folder, so the next process does not read gigabytes again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.core.store import KeyedStore

logger = logging.getLogger(__name__)

#: Smaller files are read faster than they are looked up.
LARGE = 64 << 20
_BLOCK = 1 << 20
#: A file that changed so recently, in nanoseconds, may change again within the same tick of its
#: file system's clock; its digest is not remembered.
_SETTLED = 2_000_000_000
_digests: dict[str, str] = {}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        InputError: The file changes while it is read.
        ExternalError: The operating system refused to read it.
    """
    return file_digests([path])[path]


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of several files, which are read side by side.

    Raises:
        InputError: A file changes while it is read.
        ExternalError: The operating system refused to read one.
    """
    wanted = list(dict.fromkeys(paths))
    try:
        states = {path: path.stat() for path in wanted}
    except OSError as error:
        raise ExternalError(f"Cannot read {error.filename}: {error.strerror or error}.") from error
    large = [_key(state) for state in states.values() if state.st_size >= LARGE]
    unknown = [key for key in large if key not in _digests]
    if unknown:
        _digests.update(_kept(unknown))
    new = [path for path in wanted if _key(states[path]) not in _digests]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        read = dict(zip(new, pool.map(_read, new), strict=True))
    settled = {_key(states[path]): path for path in new if _is_settled(states[path])}
    _digests.update({key: read[path] for key, path in settled.items()})
    _keep({key: read[path] for key, path in settled.items() if key in unknown})
    return {path: read[path] if path in read else _digests[_key(states[path])] for path in wanted}


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            before = _key(os.fstat(file.fileno()))
            while count := file.readinto(block):
                digest.update(block[:count])
            after = _key(os.fstat(file.fileno()))
    except OSError as error:
        raise ExternalError(f"Cannot read {path}: {error.strerror or error}.") from error
    if before != after:
        raise InputError(f"{path} changed while it was read; try again once it is written.")
    return digest.hexdigest()


def _key(state: os.stat_result) -> str:
    # The time of the last change of the inode cannot be set back as that of the content can.
    times = f"{state.st_mtime_ns} {state.st_ctime_ns}"
    return f"{state.st_dev} {state.st_ino} {state.st_size} {times}"


def _is_settled(state: os.stat_result) -> bool:
    return time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED


def _kept(keys: list[str]) -> dict[str, str]:
    try:
        with _store() as store:
            return store.get_many(keys)
    except ExternalError as error:
        logger.info("%s", error)
        return {}


def _keep(digests: dict[str, str]) -> None:
    if not digests:
        return
    try:
        with _store() as store:
            store.put_many(digests.items())
    except ExternalError as error:
        # A read-only cache costs time, and nothing else.
        logger.info("%s", error)


def _store() -> KeyedStore:
    return KeyedStore(cache_dir() / "digests.sqlite", "sha256", content="digests of files")

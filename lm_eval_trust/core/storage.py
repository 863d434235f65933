"""Files that are whole or absent: atomic writes, kept results, and files that are built once."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import platformdirs
from filelock import FileLock, Timeout

from lm_eval_trust.core.errors import ExternalError, InputError, TrustError, reason_of
from lm_eval_trust.core.hashing import content_id

logger = logging.getLogger(__name__)
Content = TypeVar("Content")

CACHE_VARIABLE = "LM_EVAL_TRUST_CACHE"
#: Name of the lock file in a folder that one process holds at a time.
LOCK = ".lock"
#: Ends of the hidden names beside what is written: the new content, the former one, and the lock.
_TEMPORARY, _REPLACED, _HELD = ".tmp", ".old", ".lock"
#: Seconds to wait for another process's output.
_PATIENCE = 60.0
_LOCKED = re.compile(rf"[0-9a-f]{{8}}{re.escape(_HELD)}")
#: Lists the commands that write into a folder.
_CLAIMS = ".lm_eval_trust"
_KEPT = re.compile(r'\{"checksum": "(?P<checksum>\w+)",\n"content": (?P<content>.*)\}\n', re.DOTALL)
#: How safetensors and torch word a refusal to write: no space, a quota, a limit on file sizes.
_REFUSED = re.compile(
    r"\(os error (28|122|27|30|5)\)|No space left on device|File too large|file write failed|"
    r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+"
)
#: The process's umask, which can only be read by setting it.
_UMASK = os.umask(0)
os.umask(_UMASK)


def cache_dir() -> Path:
    """Return the cache folder: ``LM_EVAL_TRUST_CACHE``, otherwise the platform's user cache."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("lm_eval_trust"))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise what the operating system refuses to write in this block as an error for the user.

    Libraries report a full disk in their own ways; those of safetensors and torch are known here.

    Args:
        path: What is written.

    Raises:
        ExternalError: The operating system refused.
    """
    try:
        yield
    except TrustError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error
    except Exception as error:
        if _REFUSED.search(str(error)) is None:
            raise
        raise _cannot_write(path, error) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that takes its place when the block ends well.

    An exception, a full disk or a kill leaves ``path`` as it was.

    Raises:
        ExternalError: The operating system refused to write.
    """
    with _temporary(path) as temporary, disk_errors(path):
        temporary.touch(0o600)
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to ``path`` that takes its place when the block ends well.

    The old content of ``path`` is moved aside first and deleted only once its successor is in
    place, so a kill loses neither.

    Raises:
        ExternalError: The operating system refused to write.
    """
    with temporary_folder(path) as temporary:
        replaced = temporary.with_suffix(_REPLACED)
        with disk_errors(path):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())
            temporary.chmod(0o777 & ~_UMASK)
            if path.exists():
                path.rename(replaced)
            temporary.replace(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder next to ``path`` that is deleted when the block ends.

    Raises:
        ExternalError: The operating system refused to write.
    """
    with _temporary(path) as temporary:
        with disk_errors(path):
            temporary.mkdir(0o700)
        yield temporary


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path``; what stands there after the block is deleted.

    The name is locked first, which tells what is being written from what a kill left.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        lock = FileLock(temporary.with_suffix(_HELD), timeout=0)
        lock.acquire()
    try:
        yield temporary
    finally:
        _remove_temporary(path, temporary)
        lock.release()
        temporary.with_suffix(_HELD).unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Delete what killed processes left next to a file or folder that they were writing.

    If they had moved it aside, it comes back. What another process is writing stays.
    """
    if not path.parent.is_dir():
        return
    beginning = f".{path.name}."
    for name in os.listdir(path.parent):
        if not name.startswith(beginning) or not _LOCKED.fullmatch(name[len(beginning) :]):
            continue
        lock = FileLock(path.with_name(name), timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):
            continue
        _remove_temporary(path, path.with_name(name).with_suffix(_TEMPORARY))
        lock.release()
        path.with_name(name).unlink(missing_ok=True)


def _remove_temporary(path: Path, temporary: Path) -> None:
    replaced = temporary.with_suffix(_REPLACED)
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for left in (temporary, replaced):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def folder_lock(path: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder for one process; the lock of a killed process is free again.

    Args:
        path: The folder; it is created if it does not exist.
        busy: What to tell the user if another process holds it.
        wait: Seconds to wait for the other process.

    Raises:
        InputError: Another process holds it.
        ExternalError: The operating system refused to write.
    """
    with file_lock(path / LOCK, busy, wait=wait):
        yield


@contextmanager
def file_lock(path: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock file for one process; see :func:`folder_lock`."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(busy) from error
    try:
        yield
    finally:
        lock.release()


def require_empty(folder: Path, kind: str) -> None:
    """Raise unless a folder is absent, or holds nothing but hidden files.

    Args:
        folder: Where a command is about to write for the first time.
        kind: Whose folder it would be, for the message, e.g. ``a sweep's``.

    Raises:
        InputError: It holds something, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out names a folder.")
    there = folder.iterdir() if folder.is_dir() else ()
    visible = sorted(path.name for path in there if not path.name.startswith("."))
    if visible:
        raise InputError(
            f"{folder} holds {visible[0]} and is not {kind} folder; choose an empty or a new one."
        )


def written_by_one(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder while several files of one output are written; other processes wait.

    Raises:
        InputError: Another process still writes there after a minute.
        ExternalError: The operating system refused to write.
    """
    busy = f"Another process is writing into {folder}; choose another folder, or wait."
    return folder_lock(folder, busy, wait=_PATIENCE)


def claim_folder(folder: Path, command: str, names: Iterable[str]) -> None:
    """Make a folder one into which a command writes, unless that would replace others' files.

    Args:
        folder: The folder, which need not exist.
        command: What writes there.
        names: Files and folders that it writes.

    Raises:
        InputError: One of these is there, and the command did not make it.
        ExternalError: The operating system refused to write.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out names a folder.")
    mark = folder / _CLAIMS
    claims = mark.read_text(encoding="utf-8").split("\n") if mark.is_file() else []
    if command in claims:
        return
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise InputError(
            f"{folder} holds {there[0]}, which `lm-eval-trust {command}` would replace and did not "
            f"write; choose another folder, or move it away."
        )
    with atomic_path(mark) as temporary:
        temporary.write_text("\n".join([*claims, command]), encoding="utf-8")


def write_kept(path: Path, content: Any) -> None:
    """Write a JSON-like result with a checksum, for :func:`read_kept`.

    Raises:
        ExternalError: The operating system refused to write.
    """
    text = json.dumps(content)
    record = f'{{"checksum": "{content_id(text)}",\n"content": {text}}}\n'
    with atomic_path(path) as temporary:
        temporary.write_text(record, encoding="utf-8")


def read_kept(path: Path) -> Any:
    """Return a result that :func:`write_kept` wrote, or ``None`` if it has to be made again.

    A file that was changed or damaged since is reported by a warning.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s cannot be read (%s); it is made again.", path, error)
        return None
    found = _KEPT.fullmatch(text)
    if found is None or content_id(found["content"]) != found["checksum"]:
        logger.warning("%s was changed since it was written; it is made again.", path)
        return None
    return json.loads(found["content"])


@overload
def build_once(path: Path, build: Callable[[Path], None]) -> Path: ...


@overload
def build_once(
    path: Path, build: Callable[[Path], None], *, read: Callable[[Path], Content]
) -> Content: ...


def build_once(
    path: Path,
    build: Callable[[Path], None],
    *,
    read: Callable[[Path], Any] = lambda path: path,
) -> Any:
    """Return what a file contains, built by ``build(temporary path)`` if it does not exist yet.

    Two processes that ask at once build once: the second waits and finds the first one's file.

    Args:
        path: The file.
        build: Writes it to the path that it is given.
        read: Reads it; an :class:`InputError` says that it is damaged, and it is built again with
            a warning. By default the path itself is returned.

    Raises:
        ExternalError: The operating system refused to write.
    """
    try:
        built = path.exists()
    except OSError as error:  # A folder above it may not be entered.
        raise _cannot_write(path, error) from error
    if built and (kept := _read_intact(path, read)) is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        if path.exists() and (kept := _read_intact(path, read)) is not None:
            return kept
        with atomic_path(path) as temporary:
            build(temporary)
        return read(path)
    finally:
        lock.release()


def _read_intact(path: Path, read: Callable[[Path], Content]) -> Content | None:
    try:
        return read(path)
    except InputError as error:
        logger.warning("%s is damaged (%s); it is built again.", path, error)
        return None


def _cannot_write(path: Path, error: Exception) -> ExternalError:
    reason = getattr(error, "strerror", None) or reason_of(error)
    return ExternalError(
        f"Cannot write {path}: {reason}. Free space there, or point {CACHE_VARIABLE} or the output "
        f"path to another disk; nothing half-written is left behind."
    )

"""Files that are whole or absent: atomic writes, and cache entries that are built once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from lm_eval_trust.core.errors import ExternalError

CACHE_VARIABLE = "LM_EVAL_TRUST_CACHE"
#: The process's mask, which can only be read by setting it; temporary files are made without it.
_MASK = os.umask(0)
os.umask(_MASK)


def cache_dir() -> Path:
    """Return the cache folder: ``LM_EVAL_TRUST_CACHE``, else the platform's user cache."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("lm_eval_trust"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    An exception, a full disk or a kill leaves ``path`` as it was.

    Raises:
        ExternalError: The operating system refused to write.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_MASK)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        shutil.rmtree(path, ignore_errors=True)
        temporary.chmod(0o777 & ~_MASK)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Return ``path``, built by ``build(temporary path)`` if it does not exist yet.

    Two processes that ask at once build once: the second waits and finds the first one's file.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                build(temporary)
    finally:
        lock.release()
    return path


def _cannot_write(path: Path, error: OSError) -> ExternalError:
    reason = error.strerror or str(error)
    return ExternalError(
        f"Cannot write {path}: {reason}. Free space there, or point {CACHE_VARIABLE} or the output "
        f"path to another disk; nothing half-written is left behind."
    )

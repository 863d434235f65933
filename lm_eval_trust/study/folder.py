"""A study's folder: cells that are whole or absent, what failed, what was skipped, and a lock."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval_trust import __version__
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.storage import (
    atomic_path,
    disk_errors,
    folder_lock,
    read_kept,
    require_empty,
    write_kept,
)
from lm_eval_trust.study.cells import Cell

logger = logging.getLogger(__name__)

RECORD = "cell.json"
_UNFINISHED = ".unfinished"
#: Bytes up to which a file is compared by checksum whenever its cell is looked at.
_SMALL = 4 << 20
#: Of a study's folder; it rises when earlier cells cannot be used any more.
_FORMAT = 2
_VERSIONS = ("torch", "transformers", "lm_eval", "numpy")

#: Writes a cell's files into a folder and returns what its record says of the result.
Write = Callable[[Path], Mapping[str, Any]]


class StudyFolder:
    """Where a study keeps everything.

    ``cells/KIND/TITLE-FINGERPRINT/`` appears by one renaming of a finished folder, so a kill
    leaves nothing half, and a cell that two workers computed is there once.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cell(self, cell: Cell) -> Path:
        """Return where a cell lies, or will lie."""
        return self.path / "cells" / cell.name

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """Return a finished cell's record; ``None`` if it is not there, or damaged.

        Large files are compared by size here, and by checksum when :meth:`verify` is asked.
        """
        folder = self.cell(cell)
        record: dict[str, Any] | None = read_kept(folder / RECORD)
        if record is None or record["fingerprint"] != cell.fingerprint:
            return None
        for name, (size, digest) in record["files"].items():
            path = folder / name
            whole = path.is_file() and path.stat().st_size == size
            if not whole or (size <= _SMALL and _digest(path) != digest):
                logger.warning(
                    "%s was changed since it was computed; the next run computes it again.", path
                )
                return None
        return record

    def verify(self, cell: Cell) -> Path:
        """Return a finished cell's folder, all of its files being as they were written.

        Raises:
            ExternalError: The cell is not finished, or one of its files was changed; it is then
                computed again by the next run.
        """
        record, folder = self.record(cell), self.cell(cell)
        if record is None:
            raise ExternalError(f"It needs {cell.name}, which is missing; see why that failed.")
        for name, (size, digest) in record["files"].items():
            if size > _SMALL and _digest(folder / name) != digest:
                (folder / RECORD).unlink()
                raise ExternalError(
                    f"{folder / name} was changed since it was computed. Run the study again: it "
                    f"computes that cell anew."
                )
        return folder

    def publish(self, cell: Cell, write: Write) -> float:
        """Compute a cell into its folder, unless another worker was first; return the seconds.

        Raises:
            ExternalError: The disk refused to write.
        """
        started = time.monotonic()
        with self._unfinished() as temporary:
            result = write(temporary)
            seconds = time.monotonic() - started
            files = {
                str(p.relative_to(temporary)): (p.stat().st_size, _digest(p))
                for p in _files_below(temporary)
            }
            record = {
                "cell": cell.name,
                "kind": cell.kind,
                "fingerprint": cell.fingerprint,
                "recipe": cell.recipe(),
                "result": result,
                "files": files,
                "seconds": seconds,
                "finished": time.time(),
                "host": platform.node(),
                "versions": {"lm_eval_trust": __version__} | {n: version(n) for n in _VERSIONS},
            }
            write_kept(temporary / RECORD, plain(record))
            self._put(temporary, self.cell(cell))
        self._failure(cell).unlink(missing_ok=True)
        return seconds

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        parent = self.path / _UNFINISHED
        with disk_errors(self.path):
            parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=parent))
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @staticmethod
    def _put(temporary: Path, place: Path) -> None:
        for file in _files_below(temporary):
            with file.open("rb") as written:
                os.fsync(written.fileno())
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o755)
        try:
            os.rename(temporary, place)
        except OSError:
            # Another worker has put the same cell there.
            if not (place / RECORD).is_file():
                raise

    def fail(self, cell: Cell, message: str, exit_code: int) -> None:
        """Record that a cell failed."""
        record = {"cell": cell.name, "message": message, "exit_code": exit_code}
        with atomic_path(self._failure(cell)) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")

    def failure(self, cell: Cell) -> dict[str, Any] | None:
        """Return the record of a cell that failed; ``None`` if it did not."""
        try:
            record: dict[str, Any] = json.loads(self._failure(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record

    def _failure(self, cell: Cell) -> Path:
        return self.path / "failed" / f"{cell.name}.json"

    def skipped(self) -> dict[str, str]:
        """Return the models that could not be fetched: name → why."""
        try:
            found: dict[str, str] = json.loads(self._skips.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def skip(self, models: Mapping[str, str]) -> None:
        """Record which models could not be fetched."""
        with atomic_path(self._skips) as temporary:
            temporary.write_text(json.dumps(models, indent=1, sort_keys=True), encoding="utf-8")

    @property
    def _skips(self) -> Path:
        return self.path / "skipped.json"

    def log_run(self, record: Mapping[str, Any]) -> None:
        """Add a line to the list of runs."""
        self.path.mkdir(parents=True, exist_ok=True)
        with disk_errors(self.path), (self.path / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def bind(self, study: str) -> None:
        """Make the folder that of a study.

        Raises:
            InputError: It is another study's, or a file.
            ExternalError: The disk refused to write.
        """
        self.check(study)
        mark = self.path / "study.json"
        if not mark.is_file():
            with atomic_path(mark) as temporary:
                temporary.write_text(
                    json.dumps({"study": study, "format": _FORMAT}), encoding="utf-8"
                )

    def check(self, study: str) -> None:
        """Raise if the folder is another study's.

        Raises:
            InputError: It is, or it is a file, or holds other things.
        """
        mark = self.path / "study.json"
        if not mark.is_file():
            require_empty(self.path, "a study's")
            return
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
            owner = found["study"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{mark} is damaged ({error}); delete that file.") from error
        if found.get("format") != _FORMAT:
            raise InputError(
                f"{self.path} holds a study of an earlier release, whose cells cannot be used. "
                f"Choose another folder, or delete this one to run the study there again."
            )
        if owner != study:
            raise InputError(
                f"{self.path} holds the study {owner!r}, not {study!r}; choose another folder."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run away; a run that was killed holds nothing any more.

        Raises:
            InputError: Another run is at work.
            ExternalError: The disk refused to write.
        """
        busy = f"Another run is at work in {self.path}; see its progress with --status."
        with folder_lock(self.path, busy):
            yield

    def recover(self, cells: Mapping[str, Cell]) -> None:
        """Remove what a killed run left: half cells, and damaged ones that would be in the way."""
        shutil.rmtree(self.path / _UNFINISHED, ignore_errors=True)
        for cell in cells.values():
            place = self.cell(cell)
            if place.exists() and self.record(cell) is None:
                discarded = self.path / f"{_UNFINISHED}-{uuid.uuid4().hex[:8]}"
                os.rename(place, discarded)
                shutil.rmtree(discarded, ignore_errors=True)


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

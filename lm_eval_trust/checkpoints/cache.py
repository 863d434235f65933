"""The checkpoints cached on this disk: who uses each, and which is evicted to make room.

A checkpoint's full size is reserved before its first byte is fetched, so the budget holds
at every moment. A checkpoint that is in use or awaited is never evicted; one fetched in advance
is evicted only to make room for one that was asked for.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from lm_eval_trust.checkpoints.download import PARTIAL
from lm_eval_trust.checkpoints.listing import MARKER, Listing
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.retry import Cancelled
from lm_eval_trust.core.storage import atomic_path


def write_manifest(folder: Path, listing: Listing) -> None:
    """Make the folder of a checkpoint, and say in it what the store is about to put there.

    Raises:
        InputError: The folder contains something that the store did not put there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if foreign_files := _foreign_files(folder):
        raise InputError(
            f"{folder} holds {foreign_files[0].name}, which the store did not put there; move it "
            f"away, or give the store another folder."
        )
    for path in folder.iterdir():
        if _is_half_a_marker(path):
            path.unlink()
    marker = folder / MARKER
    if not marker.is_file() or marker.read_bytes() != listing.marker:
        with atomic_path(marker) as temporary:
            temporary.write_bytes(listing.marker)


def is_own(folder: Path) -> bool:
    """Tell whether the store made a folder: its marker names it."""
    return _recorded(folder) is not None


def bytes_of(folder: Path) -> int:
    """Return the bytes that a folder's files take."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def remove(folder: Path) -> None:
    """Delete a checkpoint that the store downloaded; the marker goes last.

    Raises:
        InputError: It holds something that the store did not put there; all of it stays.
    """
    if foreign_files := _foreign_files(folder):
        raise InputError(
            f"The space of {folder} is needed, but it holds {foreign_files[0].name}, which is not "
            f"a checkpoint's file; move it away."
        )
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MARKER):
        path.unlink()
    folder.rmdir()


def _foreign_files(folder: Path) -> list[Path]:
    """Return what the store did not put into a folder."""
    recorded = _recorded(folder) or []
    own = {MARKER, *recorded, *(name + PARTIAL for name in recorded)}
    return sorted(p for p in folder.iterdir() if p.name not in own and not _is_half_a_marker(p))


def _is_half_a_marker(path: Path) -> bool:
    """Tell whether a process was killed while it wrote this marker."""
    return path.name.startswith(f".{MARKER}.") and path.name.endswith((".tmp", ".lock"))


def _recorded(folder: Path) -> list[str] | None:
    """Return the names of a checkpoint's files, or ``None`` if its folder is not the store's."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        return list(marker["files"]) if marker["folder"] == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Budget:
    """What may lie on the disk at any moment, partial downloads included.

    Attributes:
        bytes: In all; no limit if ``None``.
        checkpoints: Their number; no limit if ``None``. Two let the next one come while one is
            used.
    """

    bytes: int | None = None
    checkpoints: int | None = None

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            InputError: A limit is below 1.
        """
        for name, limit in (("bytes", self.bytes), ("checkpoints", self.checkpoints)):
            if limit is not None and limit < 1:
                raise InputError(f"A budget of {limit} {name} holds nothing; expected at least 1.")

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.bytes is not None or self.checkpoints is not None

    def __str__(self) -> str:
        limits = (("bytes", self.bytes), ("checkpoints", self.checkpoints))
        return " and ".join(f"{limit:,} {name}" for name, limit in limits if limit is not None)

    def holds(self, sizes: Iterable[int]) -> bool:
        """Tell whether checkpoints of these sizes fit together."""
        taken = list(sizes)
        return (self.bytes is None or sum(taken) <= self.bytes) and (
            self.checkpoints is None or len(taken) <= self.checkpoints
        )


logger = logging.getLogger(__name__)

#: Fetches a checkpoint into its folder until it is whole, or the event is set.
Fetch = Callable[[Listing, Path, threading.Event], None]


@dataclass
class _Entry:
    """A checkpoint on the disk, or on its way.

    Attributes:
        folder: Where.
        size: Bytes that are reserved.
        whole: Whether all of it has come.
        in_advance: Fetched for later, and not used yet.
        stop: Stops its download, while there is one.
        users: Identifiers of the threads that use it.
    """

    folder: Path
    size: int
    whole: bool = False
    in_advance: bool = False
    stop: threading.Event | None = None
    users: list[int] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Whether nobody reads or writes it."""
        return not self.users and self.stop is None


class CheckpointCache:
    """The checkpoints of one store."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        """Take over a folder, with what a killed process left in it.

        Raises:
            InputError: Another store uses the folder, or left-overs beyond the budget hold files
                that are not the store's.
            ExternalError: The folder cannot be written.
        """
        self._folder, self._budget = folder, budget
        self._lock = _locked(folder)
        self._changed = threading.Condition()
        self._asked: Counter[str] = Counter()
        self._closed = False
        self._entries = {
            path.name: _Entry(path, bytes_of(path))
            for path in sorted(folder.iterdir())
            if path.is_dir() and is_own(path)
        }
        while not budget.holds(entry.size for entry in self._entries.values()):
            self._remove(next(iter(self._entries)))

    def acquire(self, listing: Listing, fetch: Fetch) -> Path:
        """Return a checkpoint's folder, fetched if need be; it stays until :meth:`release`.

        Raises:
            InputError: It is larger than the budget, or the budget is taken up by others that
                this thread uses itself.
            Cancelled: The store was closed.
            Exception: Whatever ``fetch`` raises.
        """
        self._check_size(listing)
        name = listing.folder_name
        with self._changed:
            self._asked[name] += 1
        try:
            entry = self._obtain(listing, fetch, self._make_room_now, lambda: not self._closed)
            with self._changed:
                entry.users.append(threading.get_ident())
                entry.in_advance = False
                self._entries[name] = self._entries.pop(name)
        finally:
            with self._changed:
                self._asked[name] -= 1
                self._changed.notify_all()
        return entry.folder

    def release(self, listing: Listing) -> None:
        """End one use of a checkpoint by this thread."""
        with self._changed:
            self._entries[listing.folder_name].users.remove(threading.get_ident())
            self._changed.notify_all()

    def prefetch(self, listing: Listing, fetch: Fetch, wanted: Callable[[], bool]) -> None:
        """Fetch a checkpoint in advance, as soon as there is room next to what is used.

        Args:
            listing: The checkpoint.
            fetch: Fetches it.
            wanted: Whether it is still wanted; asked whenever something changed.

        Raises:
            InputError: It is larger than the budget.
            Cancelled: It is no longer wanted, or the store was closed.
            Exception: Whatever ``fetch`` raises.
        """
        self._check_size(listing)
        entry = self._obtain(
            listing, fetch, self._make_room_politely, lambda: wanted() and not self._closed
        )
        with self._changed:
            entry.in_advance = wanted() and not entry.users

    def notify(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop downloads; afterwards the cache fetches nothing more."""
        with self._changed:
            self._closed = True
            for entry in self._entries.values():
                if entry.stop is not None:
                    entry.stop.set()
            self._changed.notify_all()

    def evict_all(self) -> None:
        """Delete all that nobody uses."""
        with self._changed:
            for name in [name for name, entry in self._entries.items() if entry.idle]:
                try:
                    self._remove(name)
                except InputError as error:
                    logger.warning("%s", error)

    def unlock(self) -> None:
        """Let another store have the folder."""
        self._lock.release()

    def _obtain(
        self,
        listing: Listing,
        fetch: Fetch,
        make_room: Callable[[Listing], bool],
        wanted: Callable[[], bool],
    ) -> _Entry:
        """Return a checkpoint's entry once all of it has come."""
        while True:
            with self._changed:
                entry = self._reserved(listing, make_room, wanted)
                if entry.whole:
                    return entry
            try:
                fetch(listing, entry.folder, _running(entry))
                entry.whole = True
            except Cancelled:
                # For the sake of another that was asked for: wait until there is room again.
                logger.info("The download of %s gave way", listing.folder_name)
            finally:
                with self._changed:
                    entry.stop = None
                    self._changed.notify_all()

    def _reserved(
        self,
        listing: Listing,
        make_room: Callable[[Listing], bool],
        wanted: Callable[[], bool],
    ) -> _Entry:
        """Return the whole checkpoint, or its entry with room for it; waits for either."""
        name = listing.folder_name
        while True:
            if not wanted():
                raise Cancelled
            entry = self._entries.get(name)
            if entry is not None and entry.whole:
                return entry
            if (entry is None or entry.stop is None) and make_room(listing):
                break
            self._changed.wait()
        entry = self._entries.setdefault(name, _Entry(self._folder / name, 0))
        entry.size, entry.stop = listing.size, threading.Event()
        entry.in_advance = not self._asked[name]
        return entry

    def _make_room_politely(self, listing: Listing) -> bool:
        """Delete what was used; tell whether there is room that nobody else waits for."""
        if any(self._waits(name) for name, asking in self._asked.items() if asking):
            return False
        return self._make_room(listing, lambda entry: not entry.in_advance)

    def _waits(self, name: str) -> bool:
        """Tell whether a checkpoint that is asked for is neither there nor on its way."""
        entry = self._entries.get(name)
        return entry is None or (not entry.whole and entry.stop is None)

    def _make_room_now(self, listing: Listing) -> bool:
        """Delete what nobody uses, stop what comes in advance; tell whether there is room now."""
        if self._make_room(listing, lambda entry: True):
            return True
        for name, entry in self._entries.items():
            if entry.stop is not None and not self._asked[name]:
                entry.stop.set()
        me = threading.get_ident()
        mine = [entry.size for entry in self._entries.values() if me in entry.users]
        if not self._budget.holds([*mine, listing.size]):
            raise InputError(
                f"{listing.folder_name} is asked for while {len(mine)} other checkpoints are in "
                f"use, and together they exceed the budget of {self._budget}."
            )
        return False

    def _make_room(self, listing: Listing, may_go: Callable[[_Entry], bool]) -> bool:
        """Delete what has to go until the budget holds, those fetched in advance last.

        Deletes nothing where that is not enough.
        """
        others = {n: p for n, p in self._entries.items() if n != listing.folder_name}
        candidates = sorted(
            (n for n, p in others.items() if p.idle and not self._asked[n] and may_go(p)),
            key=lambda name: others[name].in_advance,
        )
        for number in range(len(candidates) + 1):
            going = candidates[:number]
            stay = [entry.size for name, entry in others.items() if name not in going]
            if self._budget.holds([*stay, listing.size]):
                for name in going:
                    self._remove(name)
                return True
        return False

    def _remove(self, name: str) -> None:
        remove(self._entries[name].folder)
        del self._entries[name]

    def _check_size(self, listing: Listing) -> None:
        if not self._budget.holds([listing.size]):
            raise InputError(
                f"{listing.folder_name} takes {listing.size:,} bytes, more than the budget of "
                f"{self._budget}; raise the budget."
            )


def _running(entry: _Entry) -> threading.Event:
    if entry.stop is None:
        raise RuntimeError(f"{entry.folder} is not being fetched")
    return entry.stop


def _locked(folder: Path) -> FileLock:
    """Make the folder, and keep other stores out of it."""
    # Whichever thread opens the cache, another may close it.
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"Another process keeps its checkpoints in {folder}; give each a folder of its own."
        ) from error
    except OSError as error:
        raise ExternalError(
            f"Cannot keep checkpoints in {folder}: {error.strerror or error}. Give another folder."
        ) from error
    return lock

"""The folder of one checkpoint in a store: what the store put there, and nothing else, goes."""

from __future__ import annotations

import json
from pathlib import Path

from lm_eval_trust.checkpoints.download import PARTIAL
from lm_eval_trust.checkpoints.listing import MARKER, Listing
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path


def mark(folder: Path, listing: Listing) -> None:
    """Make the folder of a checkpoint, and say in it what the store is about to put there.

    Raises:
        InputError: The folder holds something that the store did not put there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if strangers := _strangers(folder):
        raise InputError(
            f"{folder} holds {strangers[0].name}, which the store did not put there; move it "
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
    if strangers := _strangers(folder):
        raise InputError(
            f"{folder} takes place that is needed, but holds {strangers[0].name}, which the store "
            f"did not put there; move it away."
        )
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MARKER):
        path.unlink()
    folder.rmdir()


def _strangers(folder: Path) -> list[Path]:
    """Return what the store did not put into a folder."""
    recorded = _recorded(folder) or []
    own = {MARKER, *recorded, *(name + PARTIAL for name in recorded)}
    return sorted(p for p in folder.iterdir() if p.name not in own and not _is_half_a_marker(p))


def _is_half_a_marker(path: Path) -> bool:
    """Tell whether a process was killed while it wrote this marker."""
    return path.name.startswith(f".{MARKER}.") and path.name.endswith(".tmp")


def _recorded(folder: Path) -> list[str] | None:
    """Return the names of a checkpoint's files, or ``None`` if its folder is not the store's."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        return list(marker["files"]) if marker["folder"] == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

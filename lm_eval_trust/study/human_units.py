"""Sizes, rates and times as people write them."""

from __future__ import annotations

import re

from lm_eval_trust.core.errors import InputError

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_bytes(text: object) -> int:
    """Return the bytes of a size such as ``30 GB``, ``13.5GiB`` or a plain number.

    Raises:
        InputError: It is none, or not above 0.
    """
    found = _SIZE.fullmatch(str(text).strip())
    factor = _UNITS.get((found[2] or "B").upper()) if found else None
    size = int(float(found[1]) * factor) if found and factor else 0
    if size <= 0 or isinstance(text, bool):
        raise InputError(f"{text!r} is no size; write for instance 30 GB or 500 MiB.")
    return size


def parse_rate(text: object) -> int:
    """Return the bytes per second of a rate such as ``100 MB/s``.

    Raises:
        InputError: It is none, or not above 0.
    """
    return parse_bytes(str(text).strip().removesuffix("/s"))


def format_bytes(size: float) -> str:
    """Return a size in decimal units, e.g. ``13.5 GB``."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def format_seconds(seconds: float) -> str:
    """Return a time, e.g. ``43 s``, ``12 min``, ``5.4 h`` or ``3.1 days``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"

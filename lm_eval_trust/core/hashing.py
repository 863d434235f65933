"""Stable identities: of a text, of an item, of a configuration."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any


def normalise(text: str) -> str:
    """Fold Unicode form, letter case and white space, which do not distinguish items.

    A case-perturbed sentence therefore keeps the identity of its original.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content_id(*parts: str | int) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of exactly these parts."""
    joined = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def group_id(text: str) -> str:
    """Return the identity shared by all items made from one question, context or sentence."""
    return content_id(normalise(text))


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that identify a JSON-like mapping, whatever its key order."""
    canonical = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return content_id(canonical)

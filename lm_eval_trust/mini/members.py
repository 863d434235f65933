"""Names of the MiniAmber family, known without loading what trains it."""

from __future__ import annotations

BASE, CHAT, SAFE = "mini", "mini-chat", "mini-safe"
MEMBERS = (BASE, CHAT, SAFE)


def is_mini(spec: object) -> bool:
    """Tell whether a model's name is one of the family's, with or without a checkpoint."""
    return isinstance(spec, str) and spec.partition("@")[0] in MEMBERS

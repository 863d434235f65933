"""Names of the MiniAmber family, known without loading what trains it."""

from __future__ import annotations

BASE, CHAT, SAFE = "mini", "mini-chat", "mini-safe"
MEMBERS = (BASE, CHAT, SAFE)
#: The checkpoint of the base model that steering vectors come from unless asked otherwise: three
#: quarters of the way through pre-training.
MIDDLE = f"{BASE}@ckpt_014"
#: The decoder block that is steered unless asked otherwise.
MIDDLE_LAYER = 1


def is_mini(spec: object) -> bool:
    """Tell whether a model's name is one of the family's, with or without a checkpoint."""
    return isinstance(spec, str) and spec.partition("@")[0] in MEMBERS

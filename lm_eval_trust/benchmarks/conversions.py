"""From a mirror's layout to the file that is read; pinned by the checksum of the result."""

from __future__ import annotations

import json
from typing import Any


def glue_header(content: bytes) -> bytes:
    """Give a GLUE TSV its own header: the mirror calls the column ``sentence`` ``text``."""
    header, line_break, rest = content.partition(b"\n")
    return header.replace(b"text", b"sentence", 1) + line_break + rest


def stereoset_intersentence(content: bytes) -> bytes:
    """Join the mirror's three lists, one for each gold label, to one JSON line an item.

    The mirror keeps for every sentence its item's id, target, bias type and context; items whose
    context has a BLANK are the intra-sentence ones and are left out.
    """
    lists: dict[str, list[dict[str, Any]]] = json.loads(content)
    by_label = {
        label: {row["id"]: row["sentence"] for row in lists[label]}
        for label in ("stereotype", "anti-stereotype", "unrelated")
    }
    lines = []
    for row in lists["anti-stereotype"]:
        if "BLANK" in row["context"]:
            continue
        item = {name: row[name] for name in ("id", "target", "bias_type", "context")}
        item["stereotype"] = by_label["stereotype"][row["id"]]
        item["anti_stereotype"] = by_label["anti-stereotype"][row["id"]]
        item["unrelated"] = by_label["unrelated"][row["id"]]
        lines.append(json.dumps(item, ensure_ascii=False))
    return ("\n".join(lines) + "\n").encode()

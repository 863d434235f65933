"""The record in a baked model's folder: what it was made from, for the leak guard and for reuse."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.sources import Source, find_source

#: Key of the bake's own settings in the record.
BAKE = "bake"
#: Key, among these, of the digest of the model's files as they were verified.
DIGEST = "digest"
_VERSIONS = ("lm-eval-trust", "torch", "transformers", "peft")


def record_of(
    source: Source, made_from: Sequence[Provenance], settings: dict[str, Any], *, method: str
) -> Provenance:
    """Return the provenance of a baked model: that of everything it was made from, together.

    Items and groups are the union, so that the leak guard refuses what any of them was built
    from. ``settings`` hold each one's own summary; where they differ, the names are joined and
    the split's seed is the first one's.

    Args:
        source: The base model.
        made_from: Provenance of the vectors, the adapter and the base, where they have one.
        settings: What the bake is, for :func:`find_bake`.
        method: ``lora`` for a merged adapter alone, else ``baked``.
    """

    def joined(name: str) -> str:
        values = dict.fromkeys(str(getattr(each, name)) for each in made_from)
        return "+".join(values) or "unknown"

    return Provenance(
        model=source.identity.name,
        revision=source.identity.commit or source.identity.revision,
        dimension=joined("dimension"),
        data_source=joined("data_source"),
        split=joined("split"),
        split_seed=made_from[0].split_seed if made_from else 0,
        part=joined("part"),
        method=method,
        items=tuple(sorted({item for each in made_from for item in each.items})),
        groups=tuple(sorted({group for each in made_from for group in each.groups})),
        settings={BAKE: settings, "made_from": [each.summary() for each in made_from]},
        versions={name: importlib.metadata.version(name) for name in _VERSIONS},
    )


def find_bake(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was measured of the same bake in a folder; ``None`` if the folder is free.

    Args:
        out: Where the model is to be.
        settings: What the bake is.

    Raises:
        InputError: Something else is there, or the same bake with other files.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    record = Provenance.of_folder(out) if out.is_dir() else None
    found = record.settings.get(BAKE) if record else None
    if not isinstance(found, dict):
        raise InputError(f"{out} is there already and is no baked model; choose another --out.")
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        raise InputError(
            f"{out} holds another baked model (different: {', '.join(differing)}); choose another "
            f"--out, or delete it."
        )
    if found.get(DIGEST) != find_source(str(out)).identity.revision:
        raise InputError(
            f"{out} holds this baked model, but its files are no longer what was verified; "
            f"delete it, or choose another --out."
        )
    measured: dict[str, Any] = found["verified"]
    return measured

"""Layers as users write them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from lm_eval_trust.core.errors import InputError

#: No model is this deep; a range beyond it would fill the memory before any model is read.
_MOST = 10_000
_PART = re.compile(r"(\d+)(?:-(\d+))?")


def parse_layers(text: str) -> list[int]:
    """Return the layers that a text names: ``10-20`` (both ends), ``12,14,16`` or ``12+14``.

    Raises:
        InputError: The text is none of these, a range runs backwards, or a layer repeats.
    """
    layers: list[int] = []
    for part in re.split(r"[,+]", text.replace(" ", "")):
        found = _PART.fullmatch(part)
        first = int(found[1]) if found else 0
        last = int(found[2] or found[1]) if found else -1
        if last < first:
            raise InputError(
                f"Layers {text!r} cannot be read at {part!r}; write 10-20, 12,14,16 or 12+14."
            )
        if last >= _MOST:
            raise InputError(f"Layers {text!r} go up to {last}; no model has {_MOST} blocks.")
        layers.extend(range(first, last + 1))
    if len(set(layers)) != len(layers):
        raise InputError(f"Layers {text!r} name a layer twice.")
    return layers


def parts_of(layers: Iterable[int]) -> str:
    """Return ascending layers as users write them, runs as ranges: ``0-2,4``."""
    found = []
    runs = itertools.groupby(enumerate(layers), key=lambda pair: pair[1] - pair[0])
    for run in ([layer for _, layer in pairs] for _, pairs in runs):
        found.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
    return ",".join(found)

"""Vectors that other libraries hold in memory, taken over by their public attributes.

Known are the ``SteeringVector`` of steering-vectors, the ``ControlVector`` of repeng, and plain
mappings from a block's number to its vector, which either of them gives. Both libraries add the
vector of N to the output of the 0-based decoder block N, so N is our layer. The libraries
are not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

#: What steering-vectors calls the output of a decoder block.
_BLOCK = "decoder_block"


def vector_from(found: object, *, name: str = "vector") -> SteeringVector:
    """Return another library's steering vector as one of ours.

    It carries no standard deviation and no provenance; with ``scale=none``, ``positions=all`` and
    α = 1 it does what the other library does with it at strength 1.

    Args:
        found: A ``SteeringVector`` of steering-vectors, a ``ControlVector`` of repeng, or a mapping
            from block to vector.
        name: How it is called in messages.

    Raises:
        InputError: It is something else, belongs to another place than blocks' outputs, or holds
            something that is no finite vector.
    """
    named: Mapping[Any, Any] = found if isinstance(found, Mapping) else _attributes(found)
    vectors = named.get("layer_activations")
    kind = named.get("layer_type") if vectors is not None else _BLOCK
    if vectors is None:
        vectors = named.get("directions")
    if vectors is None:
        vectors = found
    if not isinstance(vectors, Mapping) or not vectors or not all(map(_is_block, vectors)):
        raise InputError(
            f"{name} is no steering vector that is known here; expected a SteeringVector of "
            f"steering-vectors, a ControlVector of repeng, or a mapping from a block's number to "
            f"its vector."
        )
    if kind not in (None, _BLOCK):
        raise InputError(
            f"{name} belongs to layer_type={kind!r}; only {_BLOCK} can be steered here. Train it "
            f'with layer_type="{_BLOCK}".'
        )
    return SteeringVector({int(n): _layer(name, n, v) for n, v in vectors.items()}, name=name)


def _attributes(found: object) -> dict[str, Any]:
    names = ("layer_activations", "layer_type", "directions")
    return {name: getattr(found, name, None) for name in names}


def _is_block(number: object) -> bool:
    whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
    return whole and number >= 0  # type: ignore[operator]


def _layer(name: str, number: int, values: Any) -> LayerVector:
    try:
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.ascontiguousarray(values))
        # steering-vectors has some as a single row.
        row = isinstance(values, torch.Tensor) and values.ndim == 2 and values.shape[0] == 1
        return LayerVector(values[0] if row else values)
    except (InputError, TypeError) as error:
        raise InputError(f"Layer {number} of {name} cannot be used: {reason_of(error)}") from error

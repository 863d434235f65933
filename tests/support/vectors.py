"""Vectors that were built from nothing, with the provenance of ones that were."""

from __future__ import annotations

import torch

from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector


def tide_vector(seed: int = 0, width: int = 16, layers: tuple[int, ...] = (1, 2)) -> SteeringVector:
    generator = torch.Generator().manual_seed(seed)
    made = Provenance(
        model="velmi/tides",
        revision="main",
        dimension="truthfulness",
        data_source="official",
        split="grouped",
        split_seed=0,
        part="train",
        method="mass_mean",
        items=("t1", "t2", "t3"),
        groups=("g1", "g2"),
        settings={"commit": "c0ffee", "dtype": "float32"},
        versions={"torch": "2"},
    )
    found = {
        layer: LayerVector(torch.randn(width, generator=generator), 0.5, 1.0) for layer in layers
    }
    return SteeringVector(found, made)

"""A vector to bake, and steering by plain hooks to hold a baked model against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.decoder_blocks import decoder_blocks
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

TOKENS = torch.arange(3, 43).reshape(2, 20)
PROVENANCE = Provenance(
    "weaver", "1", "fairness", "official", "grouped", 3, "train", "pca", ("a", "b"), ("g", "h")
)


def some_vector(width: int = 32, provenance: Provenance | None = PROVENANCE) -> SteeringVector:
    """Random directions of three layers, in a file's name."""
    generator = torch.Generator().manual_seed(1)
    layers = {
        index: LayerVector(torch.randn(width, generator=generator), projection_std=0.7, target=0.2)
        for index in range(3)
    }
    return SteeringVector(layers, provenance, name="fair.safetensors")


def some_plan(layers: tuple[int, ...] = (1,), **settings: Any) -> SteeringPlan:
    """The vector at some layers, α = 2 and everywhere unless told otherwise."""
    settings = {"alpha": 2.0, "positions": "all", "scale": "none"} | settings
    return SteeringPlan.from_vector(some_vector(), layers, **settings)


def logits(model: Any, shifts: dict[int, torch.Tensor] | None = None) -> torch.Tensor:
    """Logits, computed with block outputs shifted by plain hooks."""
    handles = [
        decoder_blocks(model)[layer].register_forward_hook(
            lambda block, args, output, shift=shift: (
                (output[0] + shift, *output[1:]) if isinstance(output, tuple) else output + shift
            )
        )
        for layer, shift in (shifts or {}).items()
    ]
    with torch.no_grad():
        result: torch.Tensor = model.eval()(TOKENS).logits
    for handle in handles:
        handle.remove()
    return result


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a folder."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest difference of two tensors' entries."""
    return float((first - second).abs().max())

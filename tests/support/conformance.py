"""A case of the conformance suite: one wrapper around one model, steered in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from lm_eval_trust.model_wrappers.steerable import SteerableLM
from lm_eval_trust.steering.conditions import When
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

#: Setup → harness model: every property must hold for all of them.
SETUPS = {
    "amber": "amber",
    "steered_amber": "steered_amber",
    "finetuned_amber": "finetuned_amber",
    "lora_amber": "lora_amber",
    "lora_amber_merged": "lora_amber",
    "proxy_amber": "proxy_amber",
    "proxy_amber_shared": "proxy_amber",
}
#: Strength of proxy-tuning in the cases.
PROXY_ALPHA = 0.8

#: Shapes of the random Llamas.
SHAPES: dict[str, dict[str, Any]] = {
    "multi-head": {"layers": 3, "heads": 4, "key_value_heads": 4},
    "grouped-query": {"layers": 4, "heads": 4, "key_value_heads": 2, "seed": 1},
    "tied": {"layers": 3, "heads": 2, "key_value_heads": 1, "tied": True, "hidden": 48, "seed": 2},
}

#: How many of the prompts SmolLM2 meets where each is held against float64.
LARGE_PROMPTS = 3

#: Prompts of many lengths; Unicode, line breaks, trailing spaces.
PROMPTS = (
    "Q: Who rules the city of Ankoria?",
    "a",
    "The river Tessel is long, ",
    "Óra ünd ñandú: 12 × 3 =",
    "line one\nline two\n",
    "The people of Bram say that the tower of Oss is older than the hill it stands on, and yet",
    "yes or no",
    "In winter the Velmi walk north.",
)


@dataclass(frozen=True)
class Case:
    """One model, one wrapper, one kind of steering.

    ``own_arguments`` are those that the wrapper needs beside the model and the steering.
    """

    setup: str
    folder: Path
    own_arguments: dict[str, str]
    plan_arguments: dict[str, Any]
    vector_file: Path
    vector: SteeringVector
    layers: tuple[int, ...]
    new_tokens: int
    large: bool

    @property
    def plan(self) -> SteeringPlan:
        """The plan as the reference model takes it."""
        return self.plan_with()

    def plan_with(self, **changes: Any) -> SteeringPlan:
        """The plan with some settings changed."""
        settings = self.plan_arguments | changes
        layers = settings.pop("layers", self.layers)
        if "when" in settings:
            settings["when"] = When.parse(settings["when"]).read(min(layers))
        return SteeringPlan.from_vector(self.vector, layers, scale="none", **settings)

    def lm(self, **changes: Any) -> SteerableLM:
        """The wrapper, made as the harness makes it from model arguments."""
        if self.large:
            return self._large_lm(**changes)
        steering = self.plan_arguments | {
            "vector": str(self.vector_file),
            "layer": "+".join(map(str, self.layers)),
            "scale": "none",
        }
        when = steering.pop("when", {})
        steering |= {f"when.{key}": value for key, value in when.items()}
        made: SteerableLM = self._create(SETUPS[self.setup], **steering | changes)
        return made

    def unsteered(self) -> HFLM:
        """The same model without steering: the harness's own where it can be had from there."""
        return self._create(SETUPS[self.setup] if self.own_arguments else "hf")

    def _create(self, model: str, *, batch_size: int = 8, **arguments: Any) -> Any:
        given = {"pretrained": str(self.folder), "dtype": "float32"}
        extra = {"batch_size": batch_size, "device": "cpu"}
        return get_model(model).create_from_arg_obj(given | self.own_arguments | arguments, extra)

    def _large_lm(self, *, batch_size: int = 8, **changes: Any) -> SteerableLM:
        # Loaded once; every case steers it by its own plan.
        key = (self.setup, batch_size)
        if key not in _LARGE:
            _LARGE[key] = self._create("amber", batch_size=batch_size)
        _LARGE[key].steer_by(self.plan_with(**changes))
        return _LARGE[key]


_LARGE: dict[tuple[str, int], SteerableLM] = {}


def random_vector(width: int, layers: tuple[int, ...], *, norm: float, seed: int) -> SteeringVector:
    """Random directions of a given length."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer in layers:
        direction = torch.randn(width, generator=generator)
        unit = direction / direction.norm()
        # Of a fit whose covector is not parallel to the direction, as is usual.
        other = torch.randn(width, generator=torch.Generator().manual_seed(seed + layer + 1))
        parts = {"covector": unit + (other - (other @ unit) * unit) / width**0.5, "mean": other}
        rows = torch.linalg.qr(torch.stack([direction, other, direction.roll(1)]).T).Q.T
        parts |= {"rotation": rows, "weight": rows.roll(1, dims=1) - rows}
        parts["bias"] = torch.tensor([0.5, -1.0, 1.0]) * norm
        made[layer] = LayerVector(norm * unit, 1.0, 2.0 * norm, parts=parts)
    return SteeringVector(made, name="random vector")


def scoring_requests(pairs: Sequence[tuple[str, str]]) -> list[Instance]:
    """Log-likelihood requests of (context, continuation) pairs."""
    return [
        Instance("loglikelihood", {}, pair, 0, metadata=("conformance", i, 1))
        for i, pair in enumerate(pairs)
    ]


def rolling_requests(texts: Sequence[str]) -> list[Instance]:
    """Rolling log-likelihood requests."""
    return [
        Instance("loglikelihood_rolling", {}, (text,), 0, metadata=("conformance", i, 1))
        for i, text in enumerate(texts)
    ]


def generation_requests(prompts: Sequence[str], **settings: Any) -> list[Instance]:
    """Generation requests; ``settings`` are the harness's generation arguments."""
    arguments = {"until": [], "do_sample": False} | settings
    return [
        Instance("generate_until", {}, (prompt, arguments), 0, metadata=("conformance", i, 1))
        for i, prompt in enumerate(prompts)
    ]

"""What a user asks for: a vector from a file or a dimension, at layers, with a strength.

The same request comes as model arguments (``vector=…,layer=15,alpha=2``) and as an entry of a
steering file (``steering=FILE.yaml``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lm_eval_trust.benchmarks.dimensions import find_dimension
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.steering.cache import cached_vector
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

#: The paper's choice for Amber: a checkpoint halfway through pre-training (section 3).
DEFAULT_SOURCE = "LLM360/Amber@ckpt_179"
#: Middle of Amber's 32 blocks.
DEFAULT_LAYER = 16


@dataclass(frozen=True)
class SteeringRequest:
    """One vector and how to apply it.

    Attributes:
        vector: Vector file; or
        dimension: dimension (or benchmark) whose vector is built from ``source`` and cached.
        source: ``MODEL[@REVISION]`` to build from.
        layer: 0-based decoder block, several as ``12+14+16`` or a list.
        alpha: Strength.
        positions: ``generated``, ``all`` or ``last_prompt``.
        action: ``add``, ``clamp`` or ``ablate``.
        scale: ``projection_std``, ``unit`` or ``none``.
        target: Projection that ``clamp`` sets; default: the trustworthy side's mean.
        method: How a vector is built: ``mass_mean``, ``pca`` or ``logistic``.
        data_source: ``official`` or ``tracingllm``, for building.
        split: ``grouped`` or ``random``, for building.
        split_seed: Seed of the partition, for building.
    """

    vector: str | None = None
    dimension: str | None = None
    source: str = DEFAULT_SOURCE
    layer: int | str | list[int] = DEFAULT_LAYER
    alpha: float = 1.0
    positions: str = "generated"
    action: str = "add"
    scale: str = "projection_std"
    target: float | None = None
    method: str = "mass_mean"
    data_source: str = "official"
    split: str = "grouped"
    split_seed: int = 0

    def __post_init__(self) -> None:
        if (self.vector is None) == (self.dimension is None):
            raise InputError(
                f"A steering request names either vector=FILE or dimension=NAME; "
                f"got vector={self.vector!r} and dimension={self.dimension!r}."
            )
        if self.dimension is not None:
            find_dimension(self.dimension)
        if self.vector is not None and not isinstance(self.vector, (str, Path)):
            raise InputError(f"vector={self.vector!r} is not the name of a file.")
        for name in ("alpha", "target"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not _is_number(value)):
                raise InputError(f"{name}={value!r} is not a number.")

    @property
    def layers(self) -> list[int]:
        """Layers asked for.

        Raises:
            InputError: ``layer`` is neither a number, nor a text as
                :func:`lm_eval_trust.models.layers.parse_layers` reads it, nor a list.
        """
        parts = self.layer if isinstance(self.layer, list) else [self.layer]
        return parse_layers("+".join(map(str, parts)))

    def plan(self, *, dtype: str | None = None, device: str | None = None) -> SteeringPlan:
        """Load or build the vector and return the plan that applies it.

        Args:
            dtype: In which the source model runs where a vector has to be built.
            device: Where it runs.
        """
        return SteeringPlan.from_vector(
            self._vector(dtype, device),
            self.layers,
            alpha=float(self.alpha),
            action=self.action,
            positions=self.positions,
            scale=self.scale,
            target=None if self.target is None else float(self.target),
        )

    def _vector(self, dtype: str | None, device: str | None) -> SteeringVector:
        if self.vector is not None:
            return load_vector(Path(self.vector))
        assert self.dimension is not None
        return cached_vector(
            dimension=self.dimension,
            source=self.source,
            layers=self.layers,
            method=self.method,
            data_source=self.data_source,
            split=self.split,
            split_seed=int(self.split_seed),
            dtype=dtype,
            device=device,
        )


REQUEST_KEYS = frozenset(field.name for field in fields(SteeringRequest))


def request_from(settings: Mapping[str, Any], *, where: str) -> SteeringRequest:
    """Build a request from key-value pairs.

    Raises:
        InputError: An unknown key, or values that are not possible together.
    """
    for key in settings:
        if key not in REQUEST_KEYS:
            raise unknown_name(f"key in {where}", str(key), REQUEST_KEYS)
    return SteeringRequest(**settings)


def read_steering_file(path: str | Path) -> list[SteeringRequest]:
    """Read a steering file: a list of requests under the key ``steering``.

    Paths of vectors are relative to the file.

    Raises:
        InputError: The file is missing, not YAML, or an entry is wrong; the entry is named.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the steering file {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    entries = content.get("steering") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(
            f"{path} holds no list of entries under the key 'steering'; "
            f"expected for instance: steering: [{{vector: v.safetensors, layer: 15, alpha: 2}}]."
        )
    requests = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry.get("vector"), str):
            entry = entry | {"vector": str(path.parent / entry["vector"])}
        requests.append(request_from(entry, where=f"entry {number} of {path}"))
    return requests


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False

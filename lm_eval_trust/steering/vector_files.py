"""Our own file of a steering vector: safetensors, with provenance and checksum in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.models.loading import several
from lm_eval_trust.steering.vectors import OTHER_ENDINGS, LayerVector, SteeringVector

FORMAT = "lm_eval_trust.steering_vector.v1"
#: Of vectors with tensors beside their directions, or of heads, which version 1 does not know.
FORMAT_WITH_PARTS = "lm_eval_trust.steering_vector.v2"


def write_vector(vector: SteeringVector, path: Path) -> None:
    """Write ``vector`` to ``path``, atomically.

    Directions are named ``layers.N``, and what else a layer has ``layers.N.NAME``; the header's
    metadata hold the format's name, the layers' numbers, the provenance, and a SHA-256 over all of
    these.

    Raises:
        InputError: The path has the ending of another tool's file.
        ExternalError: The operating system refused to write.
    """
    check_ending(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_bytes(vector))


def check_ending(path: Path) -> None:
    """Refuse a path that :func:`lm_eval_trust.steering.vectors.load_vector` would misread.

    Raises:
        InputError: The path has the ending of another tool's file.
    """
    if path.suffix in OTHER_ENDINGS:
        raise InputError(
            f"{path} ends in {path.suffix}, as other tools' files do; name it FILE.safetensors, "
            f"or write such a file with `lm-eval-trust vector export`."
        )


def to_bytes(vector: SteeringVector) -> bytes:
    """Return the content of the file that :func:`write_vector` writes."""
    named = {
        f"layers.{index}{name and '.'}{name}": tensor
        for index, layer in sorted(vector.layers.items())
        for name, tensor in {"": layer.direction, **layer.parts}.items()
    }
    tensors = {
        # Copies: the format refuses tensors that share memory.
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in named.items()
    }
    numbers = {
        str(index): {"projection_std": layer.projection_std, "target": layer.target}
        | ({} if layer.state_norm is None else {"state_norm": layer.state_norm})
        for index, layer in sorted(vector.layers.items())
    }
    plain = len(tensors) == len(vector.layers) and vector.site == "block"
    metadata = {
        "format": FORMAT if plain else FORMAT_WITH_PARTS,
        "layers": json.dumps(numbers),
    }
    if vector.site != "block":
        metadata["site"] = vector.site
    if vector.provenance is not None:
        metadata["provenance"] = vector.provenance.to_json()
    metadata["checksum"] = _checksum(tensors, metadata)
    return save(tensors, metadata)


def read_vector(path: Path) -> SteeringVector:
    """Read what :func:`write_vector` wrote.

    Raises:
        InputError: The file is not whole, not such a file, or its values are not usable.
        ExternalError: The operating system refused to read.
    """
    tensors, metadata = _open(path)
    if metadata.get("format") not in (FORMAT, FORMAT_WITH_PARTS):
        held = several(tensors) if tensors else "none"
        raise InputError(
            f"{path} is a safetensors file of another layout (tensors {held}; "
            f"format {metadata.get('format')!r}); expected {FORMAT!r}, as "
            f"`lm-eval-trust vector build` writes it."
        )
    if metadata.pop("checksum", None) != _checksum(tensors, metadata):
        raise InputError(
            f"{path} is damaged: its content does not match its checksum. Copy or build it again."
        )
    try:
        return SteeringVector(
            layers=_layers(tensors, json.loads(metadata["layers"])),
            provenance=_provenance(metadata),
            name=str(path),
            site=metadata.get("site", "block"),
        )
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used: {reason_of(error)}") from error


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: a tensor that is mapped from the file would die when the file is cut short.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}). Copy or build it again."
        ) from error
    except OSError as error:
        raise ExternalError(f"Cannot read {path}: {error.strerror or error}.") from error


def _layers(
    tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Mapping[str, Any]]
) -> dict[int, LayerVector]:
    parts: dict[str, dict[str, torch.Tensor]] = {index: {} for index in numbers}
    for name, tensor in tensors.items():
        _, index, *of_part = name.split(".")
        parts[index].update(dict.fromkeys(of_part, tensor))
    return {
        int(index): LayerVector(tensors[f"layers.{index}"], **values, parts=parts[index])
        for index, values in numbers.items()
    }


def _provenance(metadata: Mapping[str, str]) -> Provenance | None:
    record = metadata.get("provenance")
    return None if record is None else Provenance.from_json(record)


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of names, shapes, types and bytes of the tensors and of the metadata."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

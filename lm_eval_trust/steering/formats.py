"""Vector files of other tools: lm-eval's ``steered`` model, and bare tensors.

lm-eval's ``steered`` model reads a ``.pt`` file that holds, for each hook point such as
``layers.15``, the keys ``steering_vector``, ``steering_coefficient``, ``action``, ``bias`` and
``head_index``, and adds coefficient times vector at every position.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

_HOOKPOINT = re.compile(r"(?:\w+\.)*(?:layers|h)\.(\d+)")
_LAYER_IN_NAME = re.compile(r"layer[_-]?(\d+)")

#: Key of an entry that lm-eval does not read and that keeps the leak guard working on the way back.
_PROVENANCE = "lm_eval_trust_provenance"


def write_lm_eval(
    vector: SteeringVector, path: Path, *, layers: list[int], alpha: float, scale: str
) -> None:
    """Write a ``.pt`` for lm-eval's ``steered`` model, which adds at every position.

    Args:
        vector: Directions of these layers.
        path: Where to write; lm-eval asks for the ending ``.pt`` or ``.pth``.
        layers: Decoder blocks to steer.
        alpha: The coefficient of each.
        scale: What α multiplies: ``projection_std``, ``unit`` or ``none``.

    Raises:
        InputError: The vector lacks a layer, the scale is not possible, α is not finite, or
            the path has another ending.
        ExternalError: The operating system refused to write.
    """
    if path.suffix not in (".pt", ".pth"):
        raise InputError(f"{path} must end in .pt or .pth: lm-eval tells files by their ending.")
    if not layers:
        raise InputError("No layers were given to export; name at least one.")
    if not math.isfinite(alpha):
        raise InputError(f"alpha={alpha} is not a finite number.")
    entries: dict[str, dict[str, Any]] = {}
    for index in layers:
        entries[f"layers.{index}"] = {
            "steering_vector": vector.layer(index).scaled(scale).clone(),
            "steering_coefficient": float(alpha),
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        if vector.provenance is not None:
            entries[f"layers.{index}"][_PROVENANCE] = vector.provenance.to_json()
    buffer = io.BytesIO()
    torch.save(entries, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_pt(path: Path) -> SteeringVector:
    """Read a ``.pt`` file of lm-eval's ``steered`` model, or a bare tensor.

    An entry that adds becomes coefficient times vector, so that ``scale=none`` at α = 1 does what
    the file says. An entry that clamps becomes its vector with the coefficient as target. A bare
    tensor of shape (hidden,) belongs to the layer in its file's name (``…_layer15.pt``), as the
    files released with arXiv 2402.19465 are named.

    Raises:
        InputError: The file is missing or damaged, would run code, or is of another layout.
    """
    content = _load(path)
    if isinstance(content, torch.Tensor):
        return SteeringVector({_layer_in(path): _checked(path, content)}, name=str(path))
    if not isinstance(content, dict) or not content:
        raise _layout(path, f"holds {type(content).__name__}")
    layers: dict[int, LayerVector] = {}
    for hookpoint, entry in content.items():
        index, layer = _entry(path, hookpoint, entry)
        if index in layers:
            raise _layout(path, f"has two entries for layer {index}")
        layers[index] = layer
    return SteeringVector(layers, _provenance(path, content), name=str(path))


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"There is no vector file {path}.") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused: it holds other things than tensors and plain values, and reading "
            f"those would run code of whoever wrote it. Ask for the vector as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is not a whole .pt file ({' '.join(str(error).split())[:120]}). Copy it again."
        ) from error


def _entry(path: Path, hookpoint: Any, entry: Any) -> tuple[int, LayerVector]:
    found = _HOOKPOINT.fullmatch(str(hookpoint))
    if found is None:
        raise _layout(path, f"has the hook point {hookpoint!r}")
    if not isinstance(entry, dict) or not isinstance(entry.get("steering_vector"), torch.Tensor):
        raise _layout(path, f"has no tensor 'steering_vector' at {hookpoint!r}")
    for unsupported in ("bias", "head_index"):
        if entry.get(unsupported) is not None:
            raise _layout(path, f"sets {unsupported!r} at {hookpoint!r}")
    vector, coefficient = entry["steering_vector"], entry.get("steering_coefficient", 1.0)
    if not isinstance(coefficient, (int, float)):
        raise _layout(path, f"has the coefficient {coefficient!r} at {hookpoint!r}")
    if entry.get("action") == "add":
        # As lm-eval does: first the model's dtype, then the product.
        return int(found[1]), _checked(path, vector.to(torch.float32) * coefficient)
    if entry.get("action") == "clamp":
        return int(found[1]), _checked(path, vector, target=float(coefficient))
    raise _layout(path, f"has the action {entry.get('action')!r} at {hookpoint!r}")


def _checked(path: Path, vector: torch.Tensor, *, target: float | None = None) -> LayerVector:
    direction = vector.detach().to(torch.float32)
    if direction.ndim == 2 and direction.shape[0] == 1:
        direction = direction[0]
    try:
        return LayerVector(direction, target=target)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def _layer_in(path: Path) -> int:
    found = _LAYER_IN_NAME.search(path.stem)
    if found is None:
        raise InputError(
            f"{path} holds a bare tensor; its name must tell the layer, as in model_layer15.pt."
        )
    return int(found[1])


def _provenance(path: Path, content: Mapping[str, Mapping[str, Any]]) -> Provenance | None:
    records = {str(entry[_PROVENANCE]) for entry in content.values() if _PROVENANCE in entry}
    if len(records) > 1:
        raise InputError(
            f"{path} joins vectors of {len(records)} origins, of which a vector can name one for "
            f"the leak guard; import a file of each, and list them in a steering file."
        )
    return read_provenance(path, records.pop()) if records else None


def read_provenance(path: Path, record: str) -> Provenance:
    """Read the record of where a vector comes from that another tool's file carries.

    Raises:
        InputError: It is no such record.
    """
    try:
        return Provenance.from_json(record)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def _layout(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} {what}; expected a bare tensor, or lm-eval's layout: hook points 'layers.N' with "
        f"a 'steering_vector', a 'steering_coefficient', the action 'add' or 'clamp', and neither "
        f"'bias' nor 'head_index'."
    )

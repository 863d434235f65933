"""Control vectors in GGUF files: llama.cpp's, and repeng's, which have the same layout.

The file's architecture is ``controlvector``; tensors are called ``direction.N``, one axis each.
Both tools add ``direction.N`` to the output of the 0-based decoder block N, so that N is our
layer. llama.cpp has no place for block 0 (``llama_adapter_cvec::init``: "there's never a tensor
for layer 0") and reads 32-bit floats only. It adds at every position.

llama.cpp's own generator calls ``direction.N`` what it measured at the output of block N − 1.
What such a file does is still what llama.cpp does with it, and that is what is read here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.steering.formats import read_provenance
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

ARCHITECTURE = "controlvector"
#: Keys that neither tool reads; the first keeps the leak guard working on the way back.
_PROVENANCE, _ALPHA, _SCALE = (f"lm_eval_trust.{name}" for name in ("provenance", "alpha", "scale"))
_TENSOR = re.compile(r"direction\.(\d+)")
_PLAIN = (
    gguf.GGMLQuantizationType.F32,
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.F64,
)


def write_llama_cpp(
    vector: SteeringVector, path: Path, *, layers: list[int], alpha: float, scale: str
) -> None:
    """Write a control vector for llama.cpp, whose ``--control-vector`` adds it everywhere.

    Args:
        vector: Directions of these layers.
        path: Where to write; must end in ``.gguf``.
        layers: Decoder blocks to steer, 0 not among them.
        alpha: Multiplies each direction in the file. With 1 the strength can be left to
            ``--control-vector-scaled FILE:α``.
        scale: What α multiplies: ``projection_std``, ``unit`` or ``none``.

    Raises:
        InputError: Block 0, a layer that the vector lacks, a scale that is not possible, α that
            is 0 or not finite or makes a direction so, or another ending.
        ExternalError: The operating system refused to write.
    """
    if 0 in layers:
        raise InputError(
            "llama.cpp cannot steer the output of block 0. Choose another layer, write it for "
            "repeng (--format repeng), or bake the vector: `lm-eval-trust bake`."
        )
    write_repeng(vector, path, layers=layers, alpha=alpha, scale=scale)


def write_repeng(
    vector: SteeringVector, path: Path, *, layers: list[int], alpha: float, scale: str
) -> None:
    """Write a control vector for repeng's ``ControlVector.import_gguf``; any block will do.

    See :func:`write_llama_cpp`.
    """
    if path.suffix != ".gguf":
        raise InputError(f"{path} must end in .gguf.")
    if not layers:
        raise InputError("No layers were given to export; name at least one.")
    if not np.isfinite(alpha) or alpha == 0:
        raise InputError(f"alpha={alpha} is not a finite number other than 0.")
    directions = {
        index: LayerVector(alpha * vector.layer(index).scaled(scale)).direction
        for index in sorted(layers)
    }
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
        # repeng asks for a hint; it compares hints of vectors that are to be added up.
        writer.add_string(f"{ARCHITECTURE}.model_hint", _hint(vector.provenance))
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        writer.add_float32(_ALPHA, alpha)
        writer.add_string(_SCALE, scale)
        if vector.provenance is not None:
            writer.add_string(_PROVENANCE, vector.provenance.to_json())
        for index, direction in directions.items():
            writer.add_tensor(f"direction.{index}", direction.to(torch.float32).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: Path) -> SteeringVector:
    """Read a control vector of llama.cpp or repeng.

    Directions are what is added at strength 1, so that ``scale=none`` at α = 1 does what the file
    says. Layers whose direction is zero are left out: nothing is added there.

    Raises:
        InputError: The file is missing or damaged, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"There is no vector file {path}.")
    try:
        reader = gguf.GGUFReader(path)
        architecture = _text(reader, "general.architecture")
        provenance = _text(reader, _PROVENANCE)
        tensors = [(t.name, t.tensor_type, np.array(t.data)) for t in reader.tensors]
    except (ValueError, LookupError, TypeError, OverflowError, struct.error, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is not a whole GGUF file ({reason}). Copy it again.") from error
    if architecture != ARCHITECTURE:
        raise InputError(
            f"{path} is a GGUF file of the architecture {architecture!r}; expected a "
            f"{ARCHITECTURE!r}, as llama.cpp and repeng write it."
        )
    layers = _layers(path, tensors)
    known = None if provenance is None else read_provenance(path, provenance)
    return SteeringVector(layers, known, name=str(path))


def _layers(
    path: Path, tensors: Iterable[tuple[str, gguf.GGMLQuantizationType, np.ndarray]]
) -> Mapping[int, LayerVector]:
    layers: dict[int, LayerVector] = {}
    for name, kind, data in tensors:
        found = _TENSOR.fullmatch(name)
        if found is None:
            raise InputError(f"{path} holds a tensor {name!r}; expected direction.N, N a block.")
        if kind not in _PLAIN:
            raise InputError(f"{path} stores {name} as {kind.name}; expected F32, F16 or F64.")
        if not data.any():
            continue
        try:
            layers[int(found[1])] = LayerVector(torch.from_numpy(data.astype(np.float32)))
        except InputError as error:
            raise InputError(f"{path} cannot be used: {name}: {error}") from error
    if not layers:
        raise InputError(f"{path} holds no direction other than zero.")
    return layers


def _text(reader: gguf.GGUFReader, key: str) -> str | None:
    field = reader.get_field(key)
    return None if field is None else str(field.contents())


def _hint(provenance: Provenance | None) -> str:
    return provenance.model if provenance else "unknown"

"""Vector files of other tools, read and written.

- ``.pt`` of lm-eval's ``steered`` model: for each hook point such as ``layers.15`` the keys
  ``steering_vector``, ``steering_coefficient``, ``action``, ``bias`` and ``head_index``. lm-eval
  adds coefficient times vector at every position. Bare tensors are read as well.
- ``.gguf`` of llama.cpp, and repeng's with the same layout: the architecture is ``controlvector``,
  and tensors of one axis are called ``direction.N``. Both tools add ``direction.N`` to the output
  of the 0-based decoder block N, so N is our layer, at every position. llama.cpp has no place
  for block 0 (``llama_adapter_cvec::init``: "there's never a tensor for layer 0") and reads 32-bit
  floats only. Its own generator calls ``direction.N`` what it measured at the output of block
  N − 1; what such a file does is still what llama.cpp does with it, and that is what is read here.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.objects import vector_from
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, read_pickled, real_vector

_HOOKPOINT = re.compile(r"(?:\w+\.)*(?:layers|h)\.(\d+)")
#: The word, and neither the end of another one nor a plural, with one whole number behind it.
_LAYER_IN_NAME = re.compile(r"(?<![a-z])layer[_-]?(\d+)(?!\d|\.\d|[-+]\d)", re.IGNORECASE)
_DIRECTION = re.compile(r"direction\.(\d+)")
_ARCHITECTURE = "controlvector"
_PLAIN = (
    gguf.GGMLQuantizationType.F32,
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.F64,
)
#: Keys that the other tools do not read. The provenance keeps the leak guard working on the way
#: back.
_PT_PROVENANCE = "lm_eval_trust_provenance"
_PROVENANCE, _ALPHA, _SCALE = (f"lm_eval_trust.{name}" for name in ("provenance", "alpha", "scale"))


@dataclass(frozen=True)
class _Export:
    """What a file is to make another tool add; the fields are those of :func:`export_vector`."""

    vector: SteeringVector
    layers: list[int]
    alpha: float
    scale: str
    action: str

    def differences(self) -> dict[int, torch.Tensor]:
        """Return what is added to each block's output at α = 1, shape (hidden,)."""
        if not self.layers:
            raise InputError("No layers were given to export; name at least one.")
        if self.vector.site != "block":
            raise InputError(
                f"{self.vector.name} steers attention heads, and other tools' files add to blocks' "
                f"outputs. Write it into a model's weights with `lm-eval-trust bake`, or evaluate "
                f"it with steered_amber."
            )
        if not ACTIONS[self.action].constant:
            raise InputError(
                f"action={self.action} cannot be exported: what it adds depends on the hidden "
                f"state, and other tools add the same everywhere. Evaluate it with steered_amber."
            )
        plan = SteeringPlan.from_vector(
            self.vector, self.layers, alpha=self.alpha, action=self.action, scale=self.scale
        )
        return {step.layer: step.constant() for step in plan.steps}


@dataclass(frozen=True)
class Format:
    """A file format of another tool.

    Attributes:
        write: Writes it.
        usage: How the other tool uses the file; ``{file}`` stands for it.
    """

    write: Callable[[_Export, Path], None]
    usage: str


def _write_lm_eval(export: _Export, path: Path) -> None:
    if path.suffix not in (".pt", ".pth"):
        raise InputError(f"{path} must end in .pt or .pth: lm-eval tells files by their ending.")
    if not math.isfinite(export.alpha):
        raise InputError(f"alpha={export.alpha} is not a finite number.")
    entries: dict[str, dict[str, Any]] = {}
    for index, difference in export.differences().items():
        entries[f"layers.{index}"] = {
            "steering_vector": difference.clone(),
            "steering_coefficient": float(export.alpha),
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        if export.vector.provenance is not None:
            entries[f"layers.{index}"][_PT_PROVENANCE] = export.vector.provenance.to_json()
    buffer = io.BytesIO()
    torch.save(entries, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_pt(path: Path) -> SteeringVector:
    """Read a ``.pt`` file of lm-eval's ``steered`` model, of steering-vectors, or a bare tensor.

    An entry that adds becomes coefficient times vector, so ``scale=none`` at α = 1 does what
    the file says. An entry that clamps becomes its vector with the coefficient as target. A bare
    tensor of shape (hidden,) belongs to the layer in its file's name (``…_layer15.pt``), as the
    files released with arXiv 2402.19465 are named. The ``layer_activations`` of a
    ``SteeringVector`` of steering-vectors, saved alone, are read by
    :func:`lm_eval_trust.steering.objects.vector_from`; a whole pickled one would run code.

    Raises:
        InputError: The file is missing or damaged, would run code, or is of another layout.
    """
    content = read_pickled(
        path,
        missing=f"There is no vector file {path}.",
        instead="Ask for the vector as safetensors.",
    )
    if isinstance(content, torch.Tensor):
        return SteeringVector({_layer_in(path): _checked(path, content)}, name=str(path))
    if isinstance(content, dict) and ("layer_activations" in content or _numbered(content)):
        return vector_from(content, name=str(path))
    if not isinstance(content, dict) or not content:
        raise _layout(path, f"holds {type(content).__name__}")
    layers: dict[int, LayerVector] = {}
    for hookpoint, entry in content.items():
        index, layer = _entry(path, hookpoint, entry)
        if index in layers:
            raise _layout(path, f"has two entries for layer {index}")
        layers[index] = layer
    return SteeringVector(layers, _pt_provenance(path, content), name=str(path))


def _numbered(content: Mapping[Any, Any]) -> bool:
    """Tell whether these are vectors by block, and no hook points."""
    return bool(content) and all(
        isinstance(key, int) and isinstance(value, torch.Tensor) for key, value in content.items()
    )


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
    number = isinstance(coefficient, (int, float)) and not isinstance(coefficient, bool)
    if not number or not abs(coefficient) <= torch.finfo(torch.float32).max:
        raise _layout(path, f"has the coefficient {str(coefficient)[:40]!r} at {hookpoint!r}")
    if entry.get("action") == "add":
        # As lm-eval does: first the model's dtype, then the product.
        return int(found[1]), _checked(path, vector, times=float(coefficient))
    if entry.get("action") == "clamp":
        return int(found[1]), _checked(path, vector, target=float(coefficient))
    raise _layout(path, f"has the action {entry.get('action')!r} at {hookpoint!r}")


def _checked(
    path: Path, vector: torch.Tensor, *, times: float = 1.0, target: float | None = None
) -> LayerVector:
    try:
        direction = times * real_vector(vector)
        if direction.ndim == 2 and direction.shape[0] == 1:
            direction = direction[0]
        return LayerVector(direction, target=target)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def _layer_in(path: Path) -> int:
    found = {int(number) for number in _LAYER_IN_NAME.findall(path.stem)}
    if len(found) != 1:
        raise InputError(
            f"{path} holds a bare tensor; its name must tell the layer, once, as in "
            f"model_layer15.pt."
        )
    return found.pop()


def _pt_provenance(path: Path, content: Mapping[str, Mapping[str, Any]]) -> Provenance | None:
    records = {str(entry[_PT_PROVENANCE]) for entry in content.values() if _PT_PROVENANCE in entry}
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


def _write_llama_cpp(export: _Export, path: Path) -> None:
    if 0 in export.layers:
        raise InputError(
            "llama.cpp cannot steer the output of block 0. Choose another layer, write it for "
            "repeng (--format repeng), or bake the vector: `lm-eval-trust bake`."
        )
    _write_repeng(export, path)


def _write_repeng(export: _Export, path: Path) -> None:
    if path.suffix != ".gguf":
        raise InputError(f"{path} must end in .gguf.")
    if not np.isfinite(export.alpha) or export.alpha == 0:
        raise InputError(f"alpha={export.alpha} is not a finite number other than 0.")
    directions = {
        index: LayerVector(export.alpha * difference).direction
        for index, difference in sorted(export.differences().items())
    }
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, _ARCHITECTURE)
        # repeng asks for a hint; it compares hints of vectors that are to be added up.
        writer.add_string(f"{_ARCHITECTURE}.model_hint", _hint(export.vector.provenance))
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(directions))
        writer.add_float32(_ALPHA, export.alpha)
        writer.add_string(_SCALE, export.scale)
        if export.vector.provenance is not None:
            writer.add_string(_PROVENANCE, export.vector.provenance.to_json())
        for index, direction in directions.items():
            writer.add_tensor(f"direction.{index}", direction.to(torch.float32).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: Path) -> SteeringVector:
    """Read a control vector of llama.cpp or repeng.

    Directions are what is added at strength 1, so ``scale=none`` at α = 1 does what the file
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
    if architecture != _ARCHITECTURE:
        raise InputError(
            f"{path} is a GGUF file of the architecture {architecture!r}; expected a "
            f"{_ARCHITECTURE!r}, as llama.cpp and repeng write it."
        )
    layers = _layers(path, tensors)
    known = None if provenance is None else read_provenance(path, provenance)
    return SteeringVector(layers, known, name=str(path))


def _layers(
    path: Path, tensors: Iterable[tuple[str, gguf.GGMLQuantizationType, np.ndarray]]
) -> Mapping[int, LayerVector]:
    layers: dict[int, LayerVector] = {}
    for name, kind, data in tensors:
        found = _DIRECTION.fullmatch(name)
        if found is None:
            raise InputError(f"{path} holds a tensor {name!r}; expected direction.N, N a block.")
        if kind not in _PLAIN:
            raise InputError(f"{path} stores {name} as {kind.name}; expected F32, F16 or F64.")
        if int(found[1]) in layers:
            raise InputError(f"{path} has two directions of layer {int(found[1])}.")
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


FORMATS: Mapping[str, Format] = {
    "lm_eval": Format(
        _write_lm_eval, "run it with `--model steered --model_args …,steer_path={file}`"
    ),
    "gguf": Format(_write_llama_cpp, "run it with `llama-server -m MODEL --control-vector {file}`"),
    "repeng": Format(_write_repeng, "read it with `ControlVector.import_gguf('{file}')`"),
}


def export_vector(
    vector: SteeringVector,
    path: Path,
    *,
    tool: str,
    layers: list[int],
    alpha: float = 1.0,
    scale: str = "projection_std",
    action: str = "add",
) -> str:
    """Write a vector for another tool, and return how that tool uses it.

    Args:
        vector: Directions of these layers.
        path: Where to write: ``.pt`` or ``.pth`` for lm_eval, which reads the ending,
            and ``.gguf`` for the others.
        tool: Name of the format, see :data:`FORMATS`.
        layers: Decoder blocks to steer; ``gguf`` cannot have block 0.
        alpha: Strength; finite, and in control vectors not 0.
        scale: What α multiplies: ``projection_std``, ``relative``, ``unit`` or ``none``.
        action: Whose difference is written; it has to be the same for every state.

    Raises:
        InputError: Unknown format, or what the format cannot hold.
        ExternalError: The operating system refused to write.
    """
    if tool not in FORMATS:
        raise unknown_name("format", tool, FORMATS)
    chosen = FORMATS[tool]
    chosen.write(_Export(vector, layers, alpha, scale, action), path)
    return chosen.usage.format(file=path)


#: Write a ``.pt`` for lm-eval's ``steered`` model, which adds at every position.
write_lm_eval = partial(export_vector, tool="lm_eval")
#: Write a control vector for llama.cpp, whose ``--control-vector`` adds it everywhere. α multiplies
#: each direction in the file; with 1, leave the strength to ``--control-vector-scaled FILE:α``.
write_llama_cpp = partial(export_vector, tool="gguf")
#: Write a control vector for repeng's ``ControlVector.import_gguf``, block 0 included.
write_repeng = partial(export_vector, tool="repeng")

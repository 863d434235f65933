"""Steering vectors: one direction per layer, with what is needed to scale and to clamp."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError, reason_of, unknown_name
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.evidence import from_record, table
from lm_eval_trust.steering.hub_names import hub_name
from lm_eval_trust.steering.spec import SCALES

#: Endings by which files of other tools are told from our own.
OTHER_ENDINGS = (".pt", ".pth", ".gguf")
#: What in a block can be steered.
SITES = ("block", "heads")
#: Types of the numbers that a vector may have.
_REAL = ("float32", "float64", "float16", "bfloat16")


def read_pickled(path: Path, *, missing: str, instead: str) -> Any:
    """Return the tensors and plain values of a file of ``torch.save``; no code in it runs.

    Args:
        path: The file.
        missing: What to say if it is not there.
        instead: What to do if it holds other things.

    Raises:
        InputError: It is missing, damaged, or holds other things.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(missing) from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused: it holds other things than tensors and plain values, and reading "
            f"those would run code of whoever wrote it. {instead}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is not a whole {path.suffix} file ({reason_of(error)}). Copy it again."
        ) from error


def real_vector(values: object) -> torch.Tensor:
    """Return a tensor of real numbers as float32.

    Raises:
        InputError: It is no tensor, has no values, is sparse or quantised, or is of another type
            than float64, float32, float16 and bfloat16.
    """
    if not isinstance(values, torch.Tensor):
        raise InputError(f"A steering vector is a tensor; this is a {type(values).__name__}.")
    kind = "meta" if values.is_meta else str(values.dtype).removeprefix("torch.")
    dense = values.layout == torch.strided and not values.is_quantized
    if kind not in _REAL or not dense:
        form = kind if dense else f"{kind} ({str(values.layout).removeprefix('torch.')})"
        raise InputError(
            f"A steering vector is dense and of {', '.join(_REAL)}; this one is {form}. Convert it."
        )
    return values.detach().to(torch.float32)


@dataclass(frozen=True)
class LayerVector:
    """The direction of one decoder block's output.

    Attributes:
        direction: Raw direction, e.g. the difference of class means (eq. 1); float32, shape
            (hidden,); oriented so that adding it moves towards the trustworthy side.
        projection_std: Standard deviation of the building activations' projections on the unit
            direction; ``None`` for a vector that came without (an import).
        target: Mean projection of the trustworthy side on the unit direction, or ``None``.
        state_norm: Median length of the building activations, the hidden states at this block's
            output; ``None`` in the same case.
        parts: Further tensors by name that belong to the direction as it is, each float32 and of
            the shape that the action which needs it asks for: see
            :attr:`lm_eval_trust.steering.actions.Action.parts`.
    """

    direction: torch.Tensor
    projection_std: float | None = None
    target: float | None = None
    state_norm: float | None = None
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", real_vector(self.direction))
        parts = {name: real_vector(part) for name, part in self.parts.items()}
        object.__setattr__(self, "parts", parts)
        for name, part in parts.items():
            if not name.isidentifier() or not torch.isfinite(part).all():
                raise InputError(
                    f"The steering vector's part {name!r} holds NaN or infinite values as float32, "
                    f"or its name is no word."
                )
        if self.direction.ndim != 1:
            shape = tuple(self.direction.shape)
            raise InputError(f"A steering vector has one axis; this one has shape {shape}.")
        if not torch.isfinite(self.direction).all():
            bad = int((~torch.isfinite(self.direction)).sum())
            raise InputError(f"The steering vector holds {bad} NaN or infinite values as float32.")
        for name in ("projection_std", "target", "state_norm"):
            value = getattr(self, name)
            if value is not None and not _is_finite_number(value):
                raise InputError(
                    f"The steering vector's {name} is {value!r}, not a finite number of float32."
                )
        if self.projection_std is not None and self.projection_std <= 0:
            raise InputError(
                f"The steering vector's projection_std is {self.projection_std}; a standard "
                f"deviation is above 0. Build the vector again, or pass scale=unit."
            )
        if self.state_norm is not None and self.state_norm <= 0:
            raise InputError(
                f"The steering vector's state_norm is {self.state_norm}; the length of a hidden "
                f"state is above 0. Build the vector again, or pass scale=unit."
            )
        norm = float(self.direction.norm())
        if norm == 0:
            raise InputError("The steering vector is zero; it has no direction.")
        if not math.isfinite(norm):
            raise InputError(
                "The steering vector's length is infinite as float32; divide it by a large number."
            )

    @property
    def unit(self) -> torch.Tensor:
        """Direction of length 1, float32, shape (hidden,)."""
        unit: torch.Tensor = self.direction / self.direction.norm()
        return unit

    def scaled(self, scale: str) -> torch.Tensor:
        """Return what α multiplies, float32, shape (hidden,).

        Args:
            scale: ``none`` for the raw difference (eq. 1), ``unit`` for length 1,
                ``projection_std`` for length = standard deviation of the projections (after ITI,
                arXiv 2306.03341), ``relative`` for the typical length of a hidden state there; α is
                then a share of it.

        Raises:
            InputError: Unknown scale, or the vector does not carry what the scale needs.
        """
        if scale == "none":
            return self.direction
        if scale == "unit":
            return self.unit
        if scale == "projection_std":
            if self.projection_std is None:
                raise InputError(
                    "This vector carries no projection_std; pass scale=none or scale=unit."
                )
            return self.unit * self.projection_std
        if scale == "relative":
            if self.state_norm is None:
                raise InputError(
                    "This vector does not carry the length of the hidden states (state_norm), as "
                    "imports and vectors of earlier releases do not; build it, or pass scale=none "
                    "or scale=unit."
                )
            return self.unit * self.state_norm
        raise unknown_name("scale", scale, SCALES)


@dataclass(frozen=True)
class SteeringVector:
    """Directions of several layers that were built together.

    Attributes:
        layers: Layer (0-based decoder block, its output) → its direction.
        provenance: What it was built from; ``None`` for an import of unknown origin.
        name: How it is called in messages, e.g. its file.
        site: What is steered: ``block``, a block's output, or ``heads``, the outputs of its
            attention heads side by side, before they are projected. Of heads, ``hidden`` is the
            width of all of them.
    """

    layers: Mapping[int, LayerVector]
    provenance: Provenance | None = None
    name: str = "vector"
    site: str = "block"

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise unknown_name("site", str(self.site), SITES)
        if not self.layers:
            raise InputError(f"{self.name} holds no layer.")
        widths = {layer.direction.shape[0] for layer in self.layers.values()}
        if len(widths) != 1:
            raise InputError(f"{self.name} mixes layers of widths {sorted(widths)}.")

    def __repr__(self) -> str:
        """Return a line for people: thousands of numbers and ids tell them nothing."""
        origin = ""
        if self.provenance is not None:
            made = self.provenance
            origin = f", {made.method} of {len(made.items)} statements from {made.model}"
        layers = sorted(self.layers)
        return f"<SteeringVector {self.name}: layers {layers}, width {self.width}{origin}>"

    @property
    def width(self) -> int:
        """Hidden size that the vector belongs to."""
        return next(iter(self.layers.values())).direction.shape[0]

    def layer(self, index: int) -> LayerVector:
        """Return the direction of block ``index``.

        Raises:
            InputError: The vector has no such layer.
        """
        try:
            return self.layers[index]
        except KeyError:
            have = ", ".join(map(str, sorted(self.layers)))
            raise InputError(f"{self.name} has no layer {index}; it holds {have}.") from None

    def describe(self) -> str:
        """Return a table of the layers, and the provenance line by line."""
        lines = [
            f"{self.name}: width {self.width}{'' if self.site == 'block' else f', {self.site}'}",
            f"{'layer':>5} {'norm':>12} {'std':>12} {'state norm':>12} target",
        ]
        for index, layer in sorted(self.layers.items()):
            norm = float(layer.direction.norm())
            std, target = _number(layer.projection_std), _number(layer.target)
            state = _number(layer.state_norm)
            parts = "".join(f"  {name} {tuple(part.shape)}" for name, part in layer.parts.items())
            lines.append(f"{index:>5} {_number(norm):>12} {std:>12} {state:>12} {target}{parts}")
        if self.provenance is None:
            lines.append("provenance: unknown (an import); the leak guard cannot see it")
        else:
            lines.append("provenance:")
            lines.extend(f"  {name}: {value}" for name, value in self.provenance.summary().items())
            if self.provenance.evidence:
                lines += ["evidence:", table(from_record(self.provenance.evidence))]
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with provenance and checksum in its header, whole or not at all.

        Raises:
            InputError: The path has the ending of another tool's file.
            ExternalError: The operating system refused to write.
        """
        from lm_eval_trust.steering.vector_files import write_vector

        write_vector(self, Path(path))


def load_vector(path: str | Path) -> SteeringVector:
    """Read a steering vector: what :meth:`SteeringVector.save` wrote, or another tool's file.

    ``owner/name[@revision][:file]`` is a vector on the Hugging Face Hub
    (:func:`lm_eval_trust.steering.hub.load_from_hub`), unless there is a file of that name.

    ``.pt`` files of lm-eval's ``steered`` model and bare tensors are read as
    :func:`lm_eval_trust.steering.foreign_vectors.read_pt` describes, ``.gguf`` files of llama.cpp
    and repeng as :func:`lm_eval_trust.steering.foreign_vectors.read_gguf` does; such vectors carry
    no standard deviation, so they are applied with ``scale=none`` or ``scale=unit``. A folder is
    read by :func:`lm_eval_trust.steering.pyreft.read_pyreft`, for ``action=reft``.

    Raises:
        InputError: The file is missing, damaged, of another layout, or would run code.
        ExternalError: The Hub does not answer.
    """
    from lm_eval_trust.steering.foreign_vectors import read_gguf, read_pt
    from lm_eval_trust.steering.pyreft import read_pyreft
    from lm_eval_trust.steering.vector_files import read_vector

    if name := hub_name(path):
        from lm_eval_trust.steering.hub import load_from_hub

        return load_from_hub(name)
    path = Path(path)
    if path.is_dir():
        return read_pyreft(path)
    if not path.is_file():
        raise InputError(
            f"There is no vector file {path}; build one with `lm-eval-trust vector build`."
        )
    readers = dict(zip(OTHER_ENDINGS, (read_pt, read_pt, read_gguf), strict=True))
    return readers.get(path.suffix, read_vector)(path)


def _is_finite_number(value: object) -> bool:
    """Tell whether a value is a number that float32 holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return bool(torch.isfinite(torch.tensor(float(value), dtype=torch.float32)))
    except OverflowError:
        return False


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"

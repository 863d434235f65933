"""The one way by which weights of transformers come in: all of them, and all of them numbers.

transformers fills what is missing with random numbers and leaves out what has no place, with a
table on standard error. Here both are refused. Weights that the architecture ties to others or
names as ignorable are neither.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn

from lm_eval_trust.core.errors import InputError, TrustError, reason_of
from lm_eval_trust.models.model_files import weight_files

#: Of old checkpoints of encoders, whose classifiers have no pooling layer: never used by them.
_POOLER = re.compile(r"(?:^|\.)pooler\.dense\.(?:weight|bias)$")
#: Parts of multimodal models that their text models do without.
_OTHER_SENSES = re.compile(r"(?:^|\.)((?:vision|visual|audio|multi_modal)\w*)\.")
#: Safetensors' names of types that hold real numbers.
FLOATING = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"))
#: What bad configurations and files make transformers, torch and safetensors raise.
_UNUSABLE = (
    RuntimeError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    LookupError,
    EOFError,
    pickle.UnpicklingError,
)


@contextmanager
def loading_errors(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what ``from_pretrained`` raises for bad files or settings into an error for the user.

    Args:
        what: What is loaded and from where, e.g. ``a tokenizer from /models/chat``.
        *more: Further exceptions to turn.

    Raises:
        InputError: With the reason. Errors of our own pass unchanged.
    """
    unusable: tuple[type[Exception], ...] = (
        OSError,
        ValueError,
        KeyError,
        SafetensorError,
        StrictDataclassError,
        *more,
    )
    try:
        yield
    except TrustError:
        raise
    except unusable as error:
        raise InputError(f"Cannot load {what}: {reason_of(error)}") from error


def load_whole(kind: Any, location: str | Path, *, what: str, **arguments: Any) -> Any:
    """Load a model with all of its weights.

    The weights are read once more for the check of their values, at about 4 GB/s on a CPU core.

    Args:
        kind: One of transformers' ``AutoModelFor…`` classes.
        location: Folder or Hub name.
        what: What is loaded and from where, for messages.
        **arguments: Of ``from_pretrained``.

    Raises:
        InputError: It cannot be loaded; weights are missing, have no place, have another shape or
            an integer type, or are not finite in the dtype in use. File and tensor are named.
    """
    folder = _local_folder(location, arguments)
    with loading_errors(what, *_UNUSABLE):
        stored = Stored.of_folder(folder) if folder is not None else Stored(str(location), {})
        model, report = kind.from_pretrained(
            location, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(
            f"{location} holds a model and an adapter, which transformers puts on it. Move the "
            f"adapter to a folder of its own, and evaluate it with lora_amber."
        )
    _check_report(model, report, stored, what)
    _check_values(model, stored, what)
    return model


@dataclass(frozen=True)
class WholeModels:
    """Takes the place of an ``AutoModelFor…`` class for code that calls its ``from_pretrained``.

    Attributes:
        kind: The class.
    """

    kind: Any

    def from_pretrained(self, location: str, **arguments: Any) -> Any:
        """Load a model by :func:`load_whole`."""
        return load_whole(self.kind, location, what=f"a model from {location}", **arguments)


@dataclass(frozen=True)
class Stored:
    """The tensors that a model's files contain.

    Attributes:
        place: The files, for messages.
        tensors: Name → file, and safetensors' name of its type (empty for other formats).
    """

    place: str
    tensors: Mapping[str, tuple[Path, str]]

    @classmethod
    def of_folder(cls, folder: Path) -> Stored:
        """Read the headers of a folder's files.

        Raises:
            InputError: A file is damaged, two hold a tensor of the same name, or an index names a
                file outside the folder.
        """
        tensors: dict[str, tuple[Path, str]] = {}
        files = weight_files(folder)
        for file in files:
            for name, kind in tensor_types(file).items():
                if name in tensors:
                    raise InputError(f"{file} and {tensors[name][0]} both hold {name}; keep one.")
                tensors[name] = file, kind
        return cls(str(files[0]) if len(files) == 1 else str(folder), tensors)

    def called(self, weight: str) -> str | None:
        """Return the stored name of a model's weight; prefixes of the base model may differ."""
        if weight in self.tensors:
            return weight
        ends = (n for n in self.tensors if n.endswith(f".{weight}") or weight.endswith(f".{n}"))
        return next(ends, None)

    def names(self, weight: str) -> str:
        """Return the weight and its file, for messages."""
        stored = self.called(weight)
        return f"{stored} in {self.tensors[stored][0]}" if stored else f"{weight} in {self.place}"


def check_finite(weights: Mapping[str, torch.Tensor], names: Any, *, what: str) -> None:
    """Refuse weights that hold NaN or infinite values in their dtype.

    Args:
        weights: By name; those of integer types, which quantised models have, are passed over.
        names: Given a name, returns tensor and file for the message.
        what: What was loaded, for messages.

    Raises:
        InputError: With the first of them.
    """
    for name, weight in weights.items():
        if not is_finite(weight):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise InputError(
                f"{what} cannot be used: {names(name)} holds NaN or infinite values as {dtype}. "
                f"Get the weights again, or load them with another dtype."
            )


@torch.no_grad()
def is_finite(weight: torch.Tensor) -> bool:
    """Tell whether all values of a tensor are finite; integers and absent values always are."""
    if not weight.is_floating_point() or weight.is_meta or not weight.numel():
        return True
    if weight.element_size() == 1:
        weight = weight.float()
    # Extremes take NaN on, and need no second tensor of the size of the weights.
    low, high = torch.aminmax(weight.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def several(names: Collection[str]) -> str:
    """Return the first of some names, and how many more there are."""
    first = min(names)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _check_report(model: nn.Module, report: Mapping[str, Any], stored: Stored, what: str) -> None:
    if missing := set(report["missing_keys"]):
        raise InputError(
            f"{what} cannot be used: {stored.place} lacks {several(missing)}, which transformers "
            f"would fill with random numbers. Get the whole model, or correct its config.json."
        )
    if unexpected := {n for n in report["unexpected_keys"] if not _is_dispensable(model, n)}:
        more = f" ({len(unexpected)} such tensors)" if len(unexpected) > 1 else ""
        raise InputError(
            f"{what} cannot be used: {stored.names(min(unexpected))} has no place in the model"
            f"{more}. The files belong to another architecture or size; correct config.json."
        )
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise InputError(
            f"{what} cannot be used: {stored.names(name)} has shape {tuple(found)}, and the model "
            f"that config.json describes has {tuple(expected)} there."
        )


def _is_dispensable(model: nn.Module, name: str) -> bool:
    """Tell whether a stored tensor belongs to a part that this kind of model does without."""
    if _POOLER.search(name):
        return True
    part = _OTHER_SENSES.search(name)
    return part is not None and not any(
        part[1] in module.split(".") for module, _ in model.named_modules()
    )


def _check_values(model: nn.Module, stored: Stored, what: str) -> None:
    weights = model.state_dict()
    if getattr(model, "quantization_method", None) is None:
        for name, weight in weights.items():
            found = stored.called(name) if weight.is_floating_point() else None
            kind = stored.tensors[found][1] if found else ""
            if kind and kind not in FLOATING:
                raise InputError(
                    f"{what} cannot be used: {stored.names(name)} is stored as {kind}, which holds "
                    f"no real numbers. Save it as F32, F16 or BF16."
                )
    check_finite(weights, stored.names, what=what)


def tensor_types(file: Path) -> dict[str, str]:
    """Return safetensors' types of a file's tensors by name; nothing for other formats.

    Raises:
        InputError: The file is damaged.
    """
    if file.suffix != ".safetensors":
        return {}
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"Cannot load weights from {file}: {reason_of(error)}.") from error


def _local_folder(location: str | Path, arguments: Mapping[str, Any]) -> Path | None:
    """Return the folder that the files are in; ``None`` where they have still to be fetched."""
    folder = Path(location).expanduser()
    if not folder.is_dir():
        found = try_to_load_from_cache(
            str(location), "config.json", revision=arguments.get("revision")
        )
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    return folder / (arguments.get("subfolder") or "")

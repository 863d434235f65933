"""Activation sets: labelled activations of one checkpoint and dimension, in one file to analyse.

A folder contains ``<checkpoint>/<dimension>.safetensors``, each with a tensor for every layer, so
an analysis can read one layer at a time, whatever the size of the whole. The statements and the
activations of their controls (:mod:`lm_eval_trust.benchmarks.surface`) are in the same file. The
header contains a checksum of every tensor, which is compared when the tensor is read; sets of
versions that wrote none are read without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from lm_eval_trust.benchmarks.partition import Partition
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.benchmarks.surface import surface_controls
from lm_eval_trust.core.errors import InputError, MissingDataError, reason_of
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.sources import ModelIdentity

logger = logging.getLogger(__name__)

_META, _CHECKSUM = "lm_eval_trust", "checksum"
_TRAIN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class SetInfo:
    """What a set is of.

    Attributes:
        checkpoint: Name, e.g. ``ckpt_179``.
        step: Training step.
        tokens: Tokens that the checkpoint has seen.
        dimension: Dimension's name.
        data_source: Where the statements come from.
        model: Identity of the model.
    """

    checkpoint: str
    step: int
    tokens: int
    dimension: str
    data_source: str
    model: str


@dataclass(frozen=True)
class ActivationSet:
    """A set on disk; layers are read when they are asked for.

    Attributes:
        path: The file.
        info: What it is of.
        layers: 0-based decoder blocks, ascending.
        labels: 0 or 1, shape (n,).
        groups: What belongs together, shape (n,).
        parts: The partition that it was made with.
        texts: The statements; empty in sets of a version that did not store them.
        controls: Names of the controls whose activations it has as well.
        checksums: Name of each tensor → SHA-256; empty in sets of a version that wrote none.
    """

    path: Path
    info: SetInfo
    layers: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    parts: Partition
    texts: tuple[str, ...] = field(default=(), repr=False)
    controls: tuple[str, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def layer(self, index: int, control: str = "") -> npt.NDArray[np.float32]:
        """Return a layer's activations, float32, shape (n, hidden).

        Args:
            index: 0-based decoder block.
            control: Name of a control whose version of the statements is read; by default, none.

        Raises:
            InputError: The set lacks the layer, or the layer was changed since it was made.
        """
        if index not in self.layers:
            raise InputError(f"{self.path} has no layer {index}; it holds {self.layers}.")
        with safe_open(self.path, framework="np") as file:
            return _tensor(file, _layer_name(index, control), self.path, self.checksums)


def set_path(folder: Path, checkpoint: str, dimension: str) -> Path:
    """Return where a folder keeps a set."""
    return folder / checkpoint / f"{dimension}.safetensors"


def save_set(
    folder: Path,
    info: SetInfo,
    activations: npt.NDArray[np.float32],
    *,
    layers: Sequence[int],
    labels: npt.NDArray[np.int64],
    groups: Sequence[str],
    parts: Partition,
    texts: Sequence[str] = (),
    controls: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Path:
    """Write a set; the file is whole or as it was.

    Args:
        folder: Folder of all sets.
        info: What it is of.
        activations: Shape (n, layers, hidden).
        layers: Their 0-based decoder blocks.
        labels: 0 or 1, shape (n,).
        groups: Id of each statement's group.
        parts: The partition.
        texts: The statements.
        controls: Name of a control → activations of its texts, as ``activations``.

    Raises:
        ExternalError: The disk refused to write.
    """
    _, group = np.unique(np.array(groups), return_inverse=True)
    side = np.empty(len(labels), dtype=np.int64)
    side[parts.train], side[parts.validation], side[parts.test] = _TRAIN, _VALIDATION, _TEST
    tensors: dict[str, npt.NDArray[Any]] = {
        "labels": labels.astype(np.int64),
        "groups": group.astype(np.int64),
        "parts": side,
    }
    for control, values in {"": activations, **(controls or {})}.items():
        for at, layer in enumerate(layers):
            tensor = np.ascontiguousarray(values[:, at], dtype=np.float32)
            tensors[_layer_name(layer, control)] = tensor
    tensors["texts"] = np.frombuffer(json.dumps(list(texts)).encode(), dtype=np.uint8)
    path = set_path(folder, info.checkpoint, info.dimension)
    checksums = {name: _checksum(values) for name, values in tensors.items()}
    held = {"layers": list(layers), "controls": list(controls or {}), "checksums": checksums}
    record = json.dumps({**asdict(info), **held})
    metadata = {_META: record, _CHECKSUM: content_id(record)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)
    return path


def read_set(path: Path) -> ActivationSet:
    """Open a set.

    Raises:
        InputError: It is no such file, damaged, or was changed since it was made.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            meta = json.loads(metadata[_META])
            if metadata.get(_CHECKSUM, content_id(metadata[_META])) != content_id(metadata[_META]):
                raise ChangedSetError(path)
            checksums = meta.pop("checksums", {})
            labels, groups, side = (
                _tensor(file, name, path, checksums) for name in ("labels", "groups", "parts")
            )
            texts: tuple[str, ...] = ()
            if "texts" in set(file.keys()):
                texts = tuple(json.loads(_tensor(file, "texts", path, checksums).tobytes()))
        layers, controls = tuple(meta.pop("layers")), tuple(meta.pop("controls", ()))
        info = SetInfo(**meta)
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no whole activation set ({reason_of(error)}); delete it and make it anew."
        ) from error
    parts = Partition(*(np.flatnonzero(side == part) for part in (_TRAIN, _VALIDATION, _TEST)))
    return ActivationSet(path, info, layers, labels, groups, parts, texts, controls, checksums)


def _tensor(file: Any, name: str, path: Path, checksums: Mapping[str, str]) -> npt.NDArray[Any]:
    """Read a tensor of a set.

    Raises:
        InputError: It was changed since the set was made.
    """
    values: npt.NDArray[Any] = file.get_tensor(name)
    if checksums and checksums.get(name) != _checksum(values):
        raise ChangedSetError(path)
    return values


def _checksum(values: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


class ChangedSetError(InputError):
    """A set was changed since it was made."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was changed since it was made; delete it and make it anew.")


def find_sets(folder: Path) -> list[ActivationSet]:
    """Return all sets of a folder, by step and dimension.

    Raises:
        MissingDataError: The folder contains none.
        InputError: One is damaged.
    """
    files: Iterator[Path] = folder.glob("*/*.safetensors")
    found = [read_set(path) for path in files]
    if not found:
        raise MissingDataError(
            f"{folder} holds no activation sets (CHECKPOINT/DIMENSION.safetensors); make them with "
            f"`lm-eval-trust activations`."
        )
    return sorted(found, key=lambda s: (s.info.step, s.info.checkpoint, s.info.dimension))


def _layer_name(index: int, control: str) -> str:
    return f"layer.{index}.{control}" if control else f"layer.{index}"


@dataclass(frozen=True)
class CheckpointInfo:
    """Which checkpoint.

    Attributes:
        name: E.g. ``ckpt_179``.
        step: Its training step.
        tokens: Tokens that it has seen.

    Raises:
        InputError: The name cannot be that of a folder in the sets' folder.
    """

    name: str
    step: int
    tokens: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^./\\\0][^/\\\0]*", self.name):
            raise InputError(
                f"The checkpoint's name {self.name!r} names a folder in --out: give one without "
                f"slashes that begins with no dot."
            )


def collect(
    folder: Path,
    checkpoint: CheckpointInfo,
    model: nn.Module,
    tokenizer: Any,
    identity: ModelIdentity,
    sets: Iterable[Statements],
    *,
    layers: Sequence[int],
    split: str = "grouped",
    split_seed: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Store one set for each dimension's statements; return their paths.

    Where capitals give the labels away, the statements with matched capitals are read as well
    (:func:`lm_eval_trust.benchmarks.surface.surface_controls`). A set that is there already is left
    as it is if it is of the same model and data, and whole; one that was changed since is made
    again, with a warning.

    Raises:
        InputError: A set of another model or data is there, or layers out of range.
        ExternalError: The disk refused to write.
    """
    paths = []
    for statements in sets:
        info = SetInfo(
            checkpoint=checkpoint.name,
            step=checkpoint.step,
            tokens=checkpoint.tokens,
            dimension=statements.dimension.name,
            data_source=statements.data_source,
            model=identity.text,
        )
        path = set_path(folder, info.checkpoint, info.dimension)
        if not _there(path, info, statements, layers):

            def read(texts: list[str]) -> npt.NDArray[np.float32]:
                return load_or_extract(
                    model, tokenizer, texts, layers=layers, identity=identity, progress=progress
                )

            save_set(
                folder,
                info,
                read(statements.texts),
                layers=layers,
                labels=statements.labels,
                groups=statements.groups,
                parts=statements.partition(split=split, seed=split_seed),
                texts=statements.texts,
                controls={n: read(texts) for n, texts in surface_controls(statements).items()},
            )
        paths.append(path)
    return paths


def _there(path: Path, info: SetInfo, statements: Statements, layers: Sequence[int]) -> bool:
    """Return whether the set is there; one of a version that stored no statements is not."""
    if not path.exists():
        return False
    try:
        found = read_set(path)
        for control in ("", *found.controls):
            for layer in found.layers:
                found.layer(layer, control)
    except ChangedSetError:
        logger.warning("%s was changed since it was made; it is made again.", path)
        return False
    as_asked = found.info == info and found.layers == tuple(layers)
    if not as_asked or len(found) != len(statements):
        raise InputError(
            f"{path} is a set of {found.info.model}, {found.info.data_source}, step "
            f"{found.info.step}, with {len(found)} statements; asked for was {info.model}, "
            f"{info.data_source}, step {info.step}, with {len(statements)}. Choose another folder."
        )
    if found.texts and found.texts != tuple(statements.texts):
        raise InputError(f"{path} is a set of other statements. Choose another folder.")
    return bool(found.texts)

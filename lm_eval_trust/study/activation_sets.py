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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
#: Sets of the format before have no number, and 0 tokens where they are unknown.
_FORMAT = 2
_TRAIN, _VALIDATION, _TEST = range(3)
_NO_PART = -1


@dataclass(frozen=True)
class SetInfo:
    """What a set is of.

    Attributes:
        checkpoint: Name, e.g. ``ckpt_179``.
        step: Training step; ``None`` if it has none.
        tokens: Tokens that the checkpoint has seen; ``None`` if unknown.
        dimension: Dimension's name.
        data_source: Where the statements come from.
        model: Identity of the model.
    """

    checkpoint: str
    step: int | None
    tokens: int | None
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
    tensors: dict[str, npt.NDArray[Any]] = {
        "labels": labels.astype(np.int64),
        "groups": _numbered(groups),
        "parts": _sides(parts, len(labels)),
    }
    for control, values in {"": activations, **(controls or {})}.items():
        for at, layer in enumerate(layers):
            tensor = np.ascontiguousarray(values[:, at], dtype=np.float32)
            tensors[_layer_name(layer, control)] = tensor
    tensors["texts"] = np.frombuffer(json.dumps(list(texts)).encode(), dtype=np.uint8)
    path = set_path(folder, info.checkpoint, info.dimension)
    checksums = {name: _checksum(values) for name, values in tensors.items()}
    held = {"layers": list(layers), "controls": list(controls or {}), "checksums": checksums}
    held |= {"format": _FORMAT}
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
        if meta.pop("format", 1) < _FORMAT:
            meta["tokens"] = meta["tokens"] or None
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
        InputError: One is damaged, or two are of one checkpoint and dimension.
    """
    files = sorted(folder.glob("*/*.safetensors"))
    found = [read_set(path) for path in files]
    if not found:
        raise MissingDataError(
            f"{folder} holds no activation sets (CHECKPOINT/DIMENSION.safetensors); make them with "
            f"`lm-eval-trust activations`."
        )
    of_set: dict[tuple[str, str], ActivationSet] = {}
    for each in found:
        first = of_set.setdefault((each.info.checkpoint, each.info.dimension), each)
        if first is not each:
            raise InputError(
                f"{first.path} and {each.path} are both of {each.info.checkpoint}, "
                f"{each.info.dimension}; a folder holds one set of each. Move one elsewhere."
            )
    return sorted(found, key=_order)


def _order(found: ActivationSet) -> tuple[int, str, str]:
    """Return a set's place: by step, those without one first."""
    info = found.info
    return -1 if info.step is None else info.step, info.checkpoint, info.dimension


def differences(first: ActivationSet, second: ActivationSet) -> list[str]:
    """Return in what the statements of two sets differ, for an error; empty if they are the same.

    Args:
        first: A set.
        second: One of as many statements. Texts are compared if both sets hold them.
    """
    texts = [each.texts for each in (first, second) if each.texts]
    alike = {
        "data source": first.info.data_source == second.info.data_source,
        "statements": len(texts) < 2 or texts[0] == texts[1],
        "labels": np.array_equal(first.labels, second.labels),
        "groups": np.array_equal(first.groups, second.groups),
        "parts (train, validation, test)": np.array_equal(
            _sides(first.parts, len(first)), _sides(second.parts, len(second))
        ),
    }
    return [name for name, same in alike.items() if not same]


def _numbered(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return a number for each group's name."""
    return np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)


def _sides(parts: Partition, number: int) -> npt.NDArray[np.int64]:
    """Return the part of each statement, as files hold it."""
    side = np.full(number, _NO_PART, dtype=np.int64)
    side[parts.train], side[parts.validation], side[parts.test] = _TRAIN, _VALIDATION, _TEST
    return side


def _layer_name(index: int, control: str) -> str:
    return f"layer.{index}.{control}" if control else f"layer.{index}"


@dataclass(frozen=True)
class CheckpointInfo:
    """Which checkpoint.

    Attributes:
        name: E.g. ``ckpt_179``.
        step: Its training step; ``None`` if it has none.
        tokens: Tokens that it has seen; ``None`` if unknown.

    Raises:
        InputError: The name cannot be that of a folder in the sets' folder.
    """

    name: str
    step: int | None = None
    tokens: int | None = None

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
        InputError: A set of another model, data or partition is there, or layers out of range.
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
        parts = statements.partition(split=split, seed=split_seed)
        asked = ActivationSet(
            path,
            info,
            tuple(layers),
            statements.labels,
            _numbered(statements.groups),
            parts,
            tuple(statements.texts),
        )
        if not _there(asked):

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
                parts=parts,
                texts=statements.texts,
                controls={n: read(texts) for n, texts in surface_controls(statements).items()},
            )
        paths.append(path)
    return paths


def _there(asked: ActivationSet) -> bool:
    """Return whether a set is there; one that says less than is known would be made again.

    That is one without statements, or whose step is 0 because none was given.
    """
    path, info = asked.path, asked.info
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
    kept = [replace(i, step=i.step or None, tokens=i.tokens or None) for i in (found.info, info)]
    if kept[0] != kept[1] or found.layers != asked.layers or len(found) != len(asked):
        raise InputError(
            f"{path} is a set of {_described(found)}; asked for was {_described(asked)}. Choose "
            f"another folder."
        )
    if found.texts and (other := differences(found, asked)):
        raise InputError(
            f"{path} has other {', '.join(other)} than were asked for. Choose another folder, or "
            f"delete the set to make it anew."
        )
    return bool(found.texts) and found.info == info


def _described(found: ActivationSet) -> str:
    info, blocks = found.info, ", ".join(map(str, found.layers))
    return (
        f"{info.model}, {info.data_source}, step {'unknown' if info.step is None else info.step}, "
        f"tokens {'unknown' if info.tokens is None else info.tokens}, blocks {blocks}, with "
        f"{len(found)} statements"
    )

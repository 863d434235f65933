"""Activation sets: labelled activations of one checkpoint and dimension, in one file to analyse.

A folder holds ``<checkpoint>/<dimension>.safetensors``, each with a tensor for every layer, so
that an analysis reads one layer at a time, whatever the size of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from lm_eval_trust.benchmarks.partition import Partition
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.sources import ModelIdentity

_META = "lm_eval_trust"
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
    """

    path: Path
    info: SetInfo
    layers: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    parts: Partition

    def __len__(self) -> int:
        return len(self.labels)

    def layer(self, index: int) -> npt.NDArray[np.float32]:
        """Return a layer's activations, float32, shape (n, hidden).

        Raises:
            InputError: The set lacks the layer.
        """
        if index not in self.layers:
            raise InputError(f"{self.path} has no layer {index}; it holds {self.layers}.")
        with safe_open(self.path, framework="np") as file:
            values: npt.NDArray[np.float32] = file.get_tensor(_layer_name(index))
        return values


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
) -> Path:
    """Write a set; the file is whole or as it was.

    Args:
        folder: Of all sets.
        info: What it is of.
        activations: Shape (n, layers, hidden).
        layers: Their 0-based decoder blocks.
        labels: 0 or 1, shape (n,).
        groups: Id of each statement's group.
        parts: The partition.

    Raises:
        ExternalError: The disk refused to write.
    """
    _, group = np.unique(np.array(groups), return_inverse=True)
    side = np.empty(len(labels), dtype=np.int64)
    side[parts.train], side[parts.validation], side[parts.test] = _TRAIN, _VALIDATION, _TEST
    tensors = {"labels": labels.astype(np.int64), "groups": group.astype(np.int64), "parts": side}
    for at, layer in enumerate(layers):
        tensors[_layer_name(layer)] = np.ascontiguousarray(activations[:, at], dtype=np.float32)
    path = set_path(folder, info.checkpoint, info.dimension)
    metadata = {_META: json.dumps({**asdict(info), "layers": list(layers)})}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)
    return path


def read_set(path: Path) -> ActivationSet:
    """Open a set.

    Raises:
        InputError: It is no such file, or damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            meta = json.loads((file.metadata() or {})[_META])
            labels, groups, side = (file.get_tensor(n) for n in ("labels", "groups", "parts"))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no whole activation set ({error}); make it anew.") from error
    layers = tuple(meta.pop("layers"))
    parts = Partition(*(np.flatnonzero(side == part) for part in (_TRAIN, _VALIDATION, _TEST)))
    return ActivationSet(path, SetInfo(**meta), layers, labels, groups, parts)


def find_sets(folder: Path) -> list[ActivationSet]:
    """Return all sets of a folder, by step and dimension.

    Raises:
        MissingDataError: The folder holds none.
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


def _layer_name(index: int) -> str:
    return f"layer.{index}"


@dataclass(frozen=True)
class CheckpointInfo:
    """Which checkpoint.

    Attributes:
        name: E.g. ``ckpt_179``.
        step: Its training step.
        tokens: Tokens that it has seen.
    """

    name: str
    step: int
    tokens: int


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

    A set that is there already is left as it is if it is of the same model and data.

    Raises:
        InputError: A set of another model or data lies there, or layers out of range.
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
        if not _there(path, info, len(statements), layers):
            activations = load_or_extract(
                model,
                tokenizer,
                statements.texts,
                layers=layers,
                identity=identity,
                progress=progress,
            )
            save_set(
                folder,
                info,
                activations,
                layers=layers,
                labels=statements.labels,
                groups=statements.groups,
                parts=statements.partition(split=split, seed=split_seed),
            )
        paths.append(path)
    return paths


def _there(path: Path, info: SetInfo, number: int, layers: Sequence[int]) -> bool:
    if not path.exists():
        return False
    found = read_set(path)
    if found.info != info or len(found) != number or found.layers != tuple(layers):
        raise InputError(
            f"{path} is a set of {found.info.model}, {found.info.data_source}, step "
            f"{found.info.step}, with {len(found)} statements; asked for was {info.model}, "
            f"{info.data_source}, step {info.step}, with {number}. Choose another folder."
        )
    return True

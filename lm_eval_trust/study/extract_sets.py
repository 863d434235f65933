"""Read statements with a checkpoint and store its activations as sets to analyse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.study.activation_sets import SetInfo, read_set, save_set, set_path


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

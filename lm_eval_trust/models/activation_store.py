"""Activations on disk, shard by shard, so that interrupted work resumes where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.storage import build_once, cache_dir
from lm_eval_trust.models.activations import compute_dtype, extract_from_ids
from lm_eval_trust.models.decoder_blocks import check_layers, hidden_size, number_of_blocks
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.models.tokens import encode

_LOG = logging.getLogger(__name__)

_Extract = Callable[[list[list[int]]], npt.NDArray[np.float32]]

#: Statements in a shard: a few seconds to minutes of work, and a file of some megabytes.
SHARD_STATEMENTS = 256


@dataclass(frozen=True)
class _Shards:
    """The shards of one extraction.

    Attributes:
        folder: Where they lie.
        ids: Token ids of every text.
        layers: Decoder blocks.
        hidden: Width of the residual stream.
    """

    folder: Path
    ids: list[list[int]]
    layers: tuple[int, ...]
    hidden: int

    def parts(self) -> list[list[int]]:
        """Positions of the texts of each shard: those that begin alike go together."""
        length = SHARD_STATEMENTS
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return [order[start : start + length] for start in range(0, len(order), length)]

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"

    def shape(self, part: Sequence[int]) -> tuple[int, int, int]:
        return len(part), len(self.layers), self.hidden


def load_or_extract(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    identity: ModelIdentity,
    batch_tokens: int | None = None,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """As :func:`lm_eval_trust.models.activations.extract_activations`, kept on disk.

    Every finished shard is kept under ``activations/`` in the cache folder; the next call with
    the same model, dtype, layers and texts reads it. Two processes share the work, a damaged
    shard is noticed by its checksum and computed again. Deleting the folder is always safe.

    Args:
        model: See there.
        tokenizer: See there.
        texts: See there.
        layers: See there.
        identity: Which model it is; activations are found again by it, so it must change when
            the weights do.
        batch_tokens: See there.
        progress: See there.

    Returns:
        float32, shape (texts, layers, hidden).

    Raises:
        InputError: As there.
        ExternalError: The cache cannot be written.
    """
    checked = tuple(check_layers(layers, number_of_blocks(model), model=type(model).__name__))
    ids = encode(model, tokenizer, texts)
    key = fingerprint(
        {
            "model": asdict(identity),
            "dtype": str(compute_dtype(model)),
            "layers": checked,
            "ids": content_id(json.dumps(ids)),
        }
    )
    shards = _Shards(cache_dir() / "activations" / key, ids, checked, hidden_size(model))
    found = np.empty((len(ids), len(checked), shards.hidden), dtype=np.float32)
    with tqdm(total=len(ids), desc="activations", unit="text", disable=not progress) as bar:
        extract = partial(
            extract_from_ids, model, layers=checked, batch_tokens=batch_tokens, advance=bar.update
        )
        for number, part in enumerate(shards.parts()):
            before = bar.n
            found[part] = _shard(shards, number, part, extract)
            # A shard that was there already has not moved the bar.
            bar.update(before + len(part) - bar.n)
    return found


def _shard(
    shards: _Shards, number: int, part: list[int], extract: _Extract
) -> npt.NDArray[np.float32]:
    path = shards.path(number)

    def build(temporary: Path) -> None:
        temporary.write_bytes(_to_bytes(extract([shards.ids[i] for i in part])))

    values = _read(build_once(path, build), shards.shape(part))
    if values is None:
        _LOG.warning("%s is damaged; its activations are computed again.", path)
        path.unlink(missing_ok=True)
        values = _read(build_once(path, build), shards.shape(part))
    if values is None:
        raise RuntimeError(f"{path} cannot be read back although it was just written.")
    return values


def _to_bytes(values: npt.NDArray[np.float32]) -> bytes:
    checksum = hashlib.sha256(values.tobytes()).hexdigest()
    return save({"activations": torch.from_numpy(values)}, {"checksum": checksum})


def _read(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.float32] | None:
    """Return a shard's activations, or ``None`` if it is not whole."""
    try:
        with safe_open(path, framework="np") as file:
            values: npt.NDArray[np.float32] = file.get_tensor("activations")
            checksum = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError):
        return None
    whole = hashlib.sha256(values.tobytes()).hexdigest() == checksum
    return values if whole and values.shape == shape and values.dtype == np.float32 else None

"""Activations kept on disk in shards, so interrupted work resumes where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import build_once, cache_dir
from lm_eval_trust.models.activations import compute_dtype, extract_from_ids
from lm_eval_trust.models.decoder_blocks import checked_layers, hidden_size
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.models.tokens import encode

_Activations = npt.NDArray[np.float32]
_Shape = tuple[int, ...]

#: Statements per shard: seconds to minutes of work, and a file of some megabytes.
SHARD_STATEMENTS = 256


def load_or_extract(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    identity: ModelIdentity,
    ids: Sequence[list[int]] | None = None,
    batch_tokens: int | None = None,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """As :func:`lm_eval_trust.models.activations.extract_activations`, kept on disk.

    Every finished shard is kept under ``activations/`` in the cache folder and is read by the next
    call with the same model, dtype, layers and texts. Two processes share the work; a damaged
    shard is recognised by its checksum and computed again. The folder may be deleted at any time.

    Args:
        model: See there.
        tokenizer: See there.
        texts: See there.
        layers: See there.
        identity: Identity of the model. Activations are found by it, so it has to change whenever
            the weights do; those of a model in memory are not kept.
        ids: Token ids of each text where these are not the tokenizer's own of the texts, such as
            those of a chat.
        batch_tokens: See there.
        progress: See there.

    Returns:
        float32, shape (texts, layers, hidden).

    Raises:
        InputError: As there.
        ExternalError: The cache cannot be written.
    """
    checked = tuple(checked_layers(model, layers))
    ids = encode(model, tokenizer, texts) if ids is None else ids
    if not identity.lasts:
        with progress_bar(total=len(ids), title="Activations", unit="text", shown=progress) as bar:
            return extract_from_ids(
                model, ids, layers=checked, batch_tokens=batch_tokens, advance=bar.update
            )
    key = fingerprint(
        {
            "model": asdict(identity),
            "dtype": str(compute_dtype(model)),
            "layers": checked,
            "ids": content_id(json.dumps(ids)),
        }
    )
    folder = cache_dir() / "activations" / key
    found = np.empty((len(ids), len(checked), hidden_size(model)), dtype=np.float32)
    with progress_bar(total=len(ids), title="Activations", unit="text", shown=progress) as bar:
        extract = partial(
            extract_from_ids, model, layers=checked, batch_tokens=batch_tokens, advance=bar.update
        )
        for number, part in enumerate(_parts(ids)):
            before = bar.n
            compute = partial(extract, [ids[i] for i in part])
            path = folder / f"{number:05d}.safetensors"
            found[part] = _shard(path, (len(part), *found.shape[1:]), compute)
            # A shard that was on disk already has not moved the bar.
            bar.update(before + len(part) - bar.n)
    return found


def _parts(ids: Sequence[list[int]]) -> list[list[int]]:
    """Return the positions of each shard's texts; those with a common beginning go together."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [order[at : at + SHARD_STATEMENTS] for at in range(0, len(order), SHARD_STATEMENTS)]


def _shard(path: Path, shape: _Shape, compute: Callable[[], _Activations]) -> _Activations:
    """Return a shard's activations, computed if the file is missing or damaged."""
    return build_once(
        path,
        lambda temporary: _write(temporary, compute()),
        read=lambda written: _read(written, shape),
    )


def _read(path: Path, shape: _Shape) -> _Activations:
    """Read a shard.

    Raises:
        InputError: It is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            values: _Activations = file.get_tensor("activations")
            checksum = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError) as error:
        raise InputError(reason_of(error)) from error
    if values.shape != shape or values.dtype != np.float32:
        raise InputError(f"{values.dtype} of shape {values.shape}, expected float32 of {shape}")
    if _checksum(values) != checksum:
        raise InputError("its checksum differs")
    return values


def _write(path: Path, values: _Activations) -> None:
    checksum = {"checksum": _checksum(values)}
    path.write_bytes(save({"activations": torch.from_numpy(values)}, checksum))


def _checksum(values: _Activations) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()

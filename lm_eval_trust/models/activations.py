"""Activations of the last real token: the output of chosen decoder blocks, for many statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import (
    check_layers,
    decoder_blocks,
    decoder_of,
    hidden_size,
    number_of_blocks,
)
from lm_eval_trust.models.rows import Row, batches, sequence_rows, tree_rows
from lm_eval_trust.models.tokens import encode

#: Tokens in a batch: on CPUs what keeps a block's intermediate values in the cache, on
#: accelerators what keeps them busy.
_CPU_TOKENS, _ACCELERATOR_TOKENS = 512, 16384


def extract_activations(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    batch_tokens: int | None = None,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Return the outputs of decoder blocks at each text's last token.

    Texts are read in length-sorted batches by the decoder alone, without its language-model head
    and only up to the highest block asked for. What a text gives does not depend on its company:
    padding stands after the last real token, where causal attention cannot see it, and texts
    with a common beginning share its computation where the model allows it.

    Args:
        model: A decoder-only model of transformers, also wrapped by PEFT; its mode is left as it
            is, so call ``eval()`` before.
        tokenizer: Its tokenizer; it adds its own special tokens. A text without any token is read
            as the beginning-of-sequence token.
        texts: What the model reads.
        layers: 0-based decoder blocks; their order is the order of the result.
        batch_tokens: Tokens in a batch, with padding; chosen after the device if ``None``.
        progress: Show a progress bar on standard error.

    Returns:
        float32, shape (texts, layers, hidden).

    Raises:
        InputError: A layer is out of range, a text is longer than the model's context, the model
            is not a supported decoder, or its outputs are not finite.
    """
    check_layers(layers, number_of_blocks(model), model=type(model).__name__)
    ids = encode(model, tokenizer, texts)
    with tqdm(total=len(ids), desc="activations", unit="text", disable=not progress) as bar:
        return extract_from_ids(
            model, ids, layers=layers, batch_tokens=batch_tokens, advance=bar.update
        )


def extract_from_ids(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    *,
    layers: Sequence[int],
    batch_tokens: int | None = None,
    advance: Callable[[int], object] = lambda texts: None,
) -> npt.NDArray[np.float32]:
    """As :func:`extract_activations`, for texts that are token ids already, none of them empty.

    ``advance`` is called with the number of texts of each batch that is done.
    """
    _refuse_virtual_tokens(model)
    found = np.empty((len(ids), len(layers), hidden_size(model)), dtype=np.float32)
    rows = tree_rows(ids) if _reads_trees(model) else sequence_rows(ids)
    for batch in batches(rows, tokens=batch_tokens or _default_tokens(_device(model))):
        statements, values = _read(model, batch, layers)
        found[statements] = values
        advance(len(statements))
    _refuse_overflow(found, layers)
    return found


@torch.inference_mode()
def _read(
    model: nn.Module, batch: Sequence[Row], layers: Sequence[int]
) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Run one batch; return its statements and their activations (statements, layers, hidden)."""
    statements = [statement for row in batch for statement in row.ends]
    rows = torch.tensor([index for index, row in enumerate(batch) for _ in row.ends])
    ends = torch.tensor([end for row in batch for end in row.ends.values()])
    inputs = _inputs(batch, _device(model), compute_dtype(model))
    with _recording(model, layers, rows, ends) as recorded, _stopping_after(model, max(layers)):
        decoder_of(model)(**inputs, use_cache=False)
    return statements, torch.stack([recorded[layer] for layer in layers], dim=1).numpy()


def _inputs(batch: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Right-padded token ids; with branches also positions and the mask that keeps them apart."""
    width = max(map(len, batch))
    tokens = np.zeros((len(batch), width), dtype=np.int64)
    for index, row in enumerate(batch):
        tokens[index, : len(row)] = row.tokens
    inputs: dict[str, Any] = {"input_ids": torch.from_numpy(tokens).to(device)}
    if not any(row.branches for row in batch):
        return inputs
    positions = np.zeros((len(batch), width), dtype=np.int64)
    sees = np.tile(np.eye(width, dtype=np.bool_), (len(batch), 1, 1))
    for index, row in enumerate(batch):
        positions[index, : len(row)] = row.depths()
        sees[index, : len(row), : len(row)] = row.sees()
    mask = torch.zeros(sees.shape, dtype=dtype)
    mask.masked_fill_(~torch.from_numpy(sees), torch.finfo(dtype).min)
    inputs["position_ids"] = torch.from_numpy(positions).to(device)
    inputs["attention_mask"] = mask.unsqueeze(1).to(device)
    return inputs


@contextmanager
def _recording(
    model: nn.Module, layers: Sequence[int], rows: torch.Tensor, ends: torch.Tensor
) -> Iterator[dict[int, torch.Tensor]]:
    """Collect the blocks' outputs at the given tokens: layer → float32 on CPU, (n, hidden)."""
    blocks = decoder_blocks(model)
    width = hidden_size(model)
    recorded: dict[int, torch.Tensor] = {}

    def recorder(layer: int) -> Any:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            _check_shape(hidden, width, layer)
            at = rows.to(hidden.device), ends.to(hidden.device)
            recorded[layer] = hidden[at].to(device="cpu", dtype=torch.float32)

        return record

    # Last in line, so that whatever else is hooked to the block has had its say.
    handles = [blocks[layer].register_forward_hook(recorder(layer)) for layer in layers]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


class _Done(Exception):
    """The highest block that is needed has answered."""


@contextmanager
def _stopping_after(model: nn.Module, layer: int) -> Iterator[None]:
    """Leave the block of statements once decoder block ``layer`` has answered."""

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _Done

    handle = decoder_blocks(model)[layer].register_forward_hook(stop)
    try:
        yield
    except _Done:
        pass
    finally:
        handle.remove()


def _check_shape(hidden: Any, width: int, layer: int) -> None:
    shape = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
    if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or hidden.shape[2] != width:
        raise InputError(
            f"Decoder block {layer} answered with {shape}; expected (batch, tokens, {width})."
        )


def _refuse_virtual_tokens(model: nn.Module) -> None:
    """Prompt tuning lives outside the decoder: reading the decoder alone would leave it out."""
    for name, config in getattr(model, "peft_config", {}).items():
        if getattr(config, "is_prompt_learning", False):
            raise InputError(
                f"Adapter {name!r} ({config.peft_type}) learns virtual tokens, whose activations "
                f"are not supported; use an adapter inside the blocks, such as LoRA."
            )


def _refuse_overflow(found: npt.NDArray[np.float32], layers: Sequence[int]) -> None:
    bad = [layer for at, layer in enumerate(layers) if not np.isfinite(found[:, at]).all()]
    if bad:
        raise InputError(
            f"Activations of layer {', '.join(map(str, bad))} hold NaN or infinite values; load "
            f"the model with dtype=float32 or bfloat16, or check its weights."
        )


def _reads_trees(model: nn.Module) -> bool:
    """Whether the model takes a mask and positions of our own in every block, as Llama does."""
    config: Any = model.config
    attention = getattr(config, "_attn_implementation", None)
    return config.model_type == "llama" and attention in ("sdpa", "eager")


def _default_tokens(device: torch.device) -> int:
    return _CPU_TOKENS if device.type == "cpu" else _ACCELERATOR_TOKENS


def _device(model: nn.Module) -> torch.device:
    """Where token ids go: the embedding's device, also for a sharded model."""
    return next(decoder_of(model).parameters()).device


def compute_dtype(model: nn.Module) -> torch.dtype:
    """Return the type that the blocks compute in; quantised weights are of another type."""
    return next(p.dtype for p in decoder_of(model).parameters() if p.is_floating_point())

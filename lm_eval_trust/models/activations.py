"""Activations at the last token of many statements: the outputs of chosen decoder blocks.

Many data sets contain several statements about one question or context. Where the model allows it,
statements are read as trees in which the common beginning stands once: each token sees only its
ancestors, at the position that it has in its own statement, so the result is that of a
statement read alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.models.adapters import refuse_virtual_tokens
from lm_eval_trust.models.attention_heads import heads_width, output_projection
from lm_eval_trust.models.decoder_blocks import (
    checked_layers,
    decoder_blocks,
    decoder_of,
    hidden_size,
)
from lm_eval_trust.models.reading import reading_of
from lm_eval_trust.models.tokens import encode

#: Tokens per batch: few enough on CPUs for a block's intermediate values to stay in the cache,
#: enough on accelerators to keep them busy.
_CPU_TOKENS, _ACCELERATOR_TOKENS = 512, 16384
#: A statement joins a tree if at least one of so many of its tokens is shared.
_WORTHWHILE = 4
#: Longest tree, in tokens: attention is quadratic, and longer ones cost more than they save.
_LONGEST_TREE = 256


def extract_activations(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    batch_tokens: int | None = None,
    heads: bool = False,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Return the outputs of decoder blocks at each text's last token.

    Texts are read in length-sorted batches by the decoder alone, without its language-model head
    and only up to the highest requested block. The result for a text does not depend on the other
    texts: padding comes after the last real token, where causal attention cannot see it, and texts
    with a common beginning share its computation where the model allows it.

    Args:
        model: A decoder-only model of transformers, also wrapped by PEFT; its mode is not changed,
            so call ``eval()`` before.
        tokenizer: Its tokenizer; it adds its own special tokens. A text without any token is read
            as the beginning-of-sequence token.
        texts: The texts to read.
        layers: 0-based decoder blocks; their order is the order of the result.
        batch_tokens: Tokens per batch, including padding; ``None`` to choose by the device.
        heads: Read the blocks' attention heads instead, side by side before their output
            projection; they take the place of ``hidden`` in the result's shape.
        progress: Show a progress bar on standard error.

    Returns:
        float32, shape (texts, layers, hidden).

    Raises:
        InputError: A layer is out of range or skipped by text, a text is longer than the model's
            context, the model is not a supported decoder, or its outputs are not finite.
    """
    checked_layers(model, layers)
    ids = encode(model, tokenizer, texts)
    with progress_bar(total=len(ids), title="Activations", unit="text", shown=progress) as bar:
        return extract_from_ids(
            model,
            ids,
            layers=layers,
            batch_tokens=batch_tokens,
            heads=heads,
            advance=bar.update,
        )


def extract_from_ids(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    *,
    layers: Sequence[int],
    batch_tokens: int | None = None,
    heads: bool = False,
    advance: Callable[[int], object] = lambda texts: None,
) -> npt.NDArray[np.float32]:
    """As :func:`extract_activations`, for texts given as token ids, none of them empty.

    ``advance`` is called with the number of texts of each finished batch.
    """
    refuse_virtual_tokens(model)
    reading_of(model)  # Padding behind a text would change a model that looks ahead.
    width = heads_width(model, layers[0]) if heads else hidden_size(model)
    found = np.empty((len(ids), len(layers), width), dtype=np.float32)
    rows = tree_rows(ids) if _reads_trees(model) else sequence_rows(ids)
    for batch in batches(rows, tokens=batch_tokens or _default_tokens(_device(model))):
        statements, values = _read(model, batch, layers, heads=heads)
        found[statements] = values
        advance(len(statements))
    _refuse_overflow(found, layers)
    return found


@torch.inference_mode()
def _read(
    model: nn.Module, batch: Sequence[Row], layers: Sequence[int], *, heads: bool
) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Run one batch; return its statements and their activations (statements, layers, hidden)."""
    statements = [statement for row in batch for statement in row.ends]
    rows = torch.tensor([index for index, row in enumerate(batch) for _ in row.ends])
    ends = torch.tensor([end for row in batch for end in row.ends.values()])
    inputs = _inputs(batch, _device(model), compute_dtype(model))
    recording = _recording_heads if heads else _recording
    with recording(model, layers, rows, ends) as recorded, stopping_after(model, max(layers)):
        decoder_of(model)(**inputs, use_cache=False)
    for layer in layers:
        if layer not in recorded:
            raise InputError(
                f"Decoder block {layer} of {type(model).__name__} did not run: text skips it, or "
                f"it is not called as a module. Read other layers."
            )
    return statements, torch.stack([recorded[layer] for layer in layers], dim=1).numpy()


def _inputs(batch: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Right-padded token ids; for trees also positions and the mask that separates branches."""
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

    # Registered last, so that the output of all other hooks on the block is recorded.
    handles = [blocks[layer].register_forward_hook(recorder(layer)) for layer in layers]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recording_heads(
    model: nn.Module, layers: Sequence[int], rows: torch.Tensor, ends: torch.Tensor
) -> Iterator[dict[int, torch.Tensor]]:
    """As :func:`_recording`, of the heads' outputs side by side."""
    recorded: dict[int, torch.Tensor] = {}

    def recorder(layer: int) -> Any:
        def record(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            _check_shape(inputs[0], heads_width(model, layer), layer)
            at = rows.to(inputs[0].device), ends.to(inputs[0].device)
            recorded[layer] = inputs[0][at].to(device="cpu", dtype=torch.float32)

        return record

    handles = [
        output_projection(model, layer).register_forward_pre_hook(recorder(layer))
        for layer in layers
    ]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


class _Done(Exception):
    """The highest needed block has computed its output."""


@contextmanager
def stopping_after(model: nn.Module, layer: int) -> Iterator[None]:
    """Leave the ``with`` block once decoder block ``layer`` has computed its output."""

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
            f"Decoder block {layer} returned {shape}; expected (batch, tokens, {width})."
        )


def _refuse_overflow(found: npt.NDArray[np.float32], layers: Sequence[int]) -> None:
    bad = [layer for at, layer in enumerate(layers) if not np.isfinite(found[:, at]).all()]
    if bad:
        raise InputError(
            f"Activations of layer {', '.join(map(str, bad))} hold NaN or infinite values; load "
            f"the model with dtype=float32 or bfloat16, or check its weights."
        )


def _reads_trees(model: nn.Module) -> bool:
    """Tell whether the model takes our own mask and positions in every block, as Llama does."""
    config: Any = model.config
    attention = getattr(config, "_attn_implementation", None)
    return config.model_type == "llama" and attention in ("sdpa", "eager")


def _default_tokens(device: torch.device) -> int:
    return _CPU_TOKENS if device.type == "cpu" else _ACCELERATOR_TOKENS


def _device(model: nn.Module) -> torch.device:
    """Return the device that token ids go to: the embedding's, also for a sharded model."""
    return next(decoder_of(model).parameters()).device


def compute_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype that the blocks compute in; quantised weights are stored in another one."""
    return next(p.dtype for p in decoder_of(model).parameters() if p.is_floating_point())


@dataclass
class Row:
    """One row of a batch: a tree of tokens; a plain sequence is a tree without branches.

    Attributes:
        tokens: Token ids, each after its parent.
        parents: Position in the row of each token's predecessor; -1 for the first.
        ends: Statement → position in the row of its last token.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def branches(self) -> bool:
        """Whether the row is more than a plain sequence."""
        return self.parents != list(range(-1, len(self) - 1))

    def depths(self) -> npt.NDArray[np.int64]:
        """Return each token's position in its own statement, shape (tokens,)."""
        depths = np.zeros(len(self), dtype=np.int64)
        for token, parent in enumerate(self.parents):
            depths[token] = depths[parent] + 1 if parent >= 0 else 0
        return depths

    def sees(self) -> npt.NDArray[np.bool_]:
        """Return which token (row) sees which (column): itself and its ancestors."""
        sees = np.eye(len(self), dtype=np.bool_)
        for token, parent in enumerate(self.parents):
            if parent >= 0:
                sees[token] |= sees[parent]
        return sees

    def append(self, statement: int, path: list[int], tokens: Sequence[int]) -> list[int]:
        """Add the tokens of a statement that follow ``path``; return the statement's whole path."""
        path = list(path)
        for token in tokens:
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.tokens))
            self.tokens.append(token)
        self.ends[statement] = path[-1]
        return path


def sequence_rows(ids: Sequence[Sequence[int]]) -> list[Row]:
    """Return one row for each statement."""
    rows = []
    for statement, tokens in enumerate(ids):
        row = Row()
        row.append(statement, [], tokens)
        rows.append(row)
    return rows


def tree_rows(ids: Sequence[Sequence[int]]) -> list[Row]:
    """Return rows in which statements with a common beginning share its tokens."""
    rows: list[Row] = []
    path: list[int] = []
    previous: Sequence[int] = []
    for statement in sorted(range(len(ids)), key=lambda i: list(ids[i])):
        tokens = ids[statement]
        common = shared(previous, tokens)
        fits = rows and len(rows[-1]) + len(tokens) - common <= _LONGEST_TREE
        if not fits or common * _WORTHWHILE < len(tokens):
            rows.append(Row())
            common = 0
        path = rows[-1].append(statement, path[:common], tokens[common:])
        previous = tokens
    return rows


def batches(rows: Sequence[Row], *, tokens: int) -> Iterator[list[Row]]:
    """Yield the rows, shortest first, in batches of at most ``tokens`` tokens including padding.

    A longer row is a batch by itself.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))

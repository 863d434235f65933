"""How a model reads: whether it looks ahead, and whether padding leaves its other tokens alone.

Families that the tests know are looked up. Any other model is measured, by a handful of short
passes before anything is computed with it: what it generates in a padded batch, with its cache, is
compared with what it predicts for each row alone and read at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.decoder_blocks import text_config
from lm_eval_trust.models.families import TESTED
from lm_eval_trust.models.tokens import padded_batch

#: Tested types that padding or a cache changes, in all or some of their blocks.
_EXCEPTIONS = {
    "minimax": {"masks_padding": False},
    "recurrent_gemma": {"masks_padding": False},
    "rwkv": {"masks_padding": False, "cached": False},
}
#: Lengths of the two rows that are read, and how many tokens are generated after them.
_LONG, _SHORT, _NEW = 20, 7, 3
#: What rounding may change, as a part of the logits' standard deviation.
_CLOSE, _CLOSE_IN_HALF_PRECISION = 0.01, 0.25
#: Index of the last prompt token → context in which a model reads.
Scope = Callable[[int], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Reading:
    """What holds for a model.

    Attributes:
        causal: No token changes what the model predicts before it.
        cached: With its cache it predicts what it predicts without one.
        masks_padding: Padding before a row changes nothing.
    """

    causal: bool = True
    cached: bool = True
    masks_padding: bool = True


_KNOWN: WeakKeyDictionary[nn.Module, Reading] = WeakKeyDictionary()


def reading_of(model: Any) -> Reading:
    """Return how a model reads, measured once where its family is none of the tested ones.

    Args:
        model: A model of transformers or peft's wrapper around one, in evaluation mode.

    Raises:
        InputError: It looks ahead, so no log-likelihood and no steering of it means what it
            does for a causal model.
    """
    kind = str(model.config.model_type)
    if kind in TESTED:
        return Reading(**_EXCEPTIONS.get(kind, {}))
    if model not in _KNOWN:
        _KNOWN[model] = measure(model)
    if not _KNOWN[model].causal:
        raise InputError(
            f"{type(model).__name__} ({kind}) looks ahead: later tokens change what it predicts "
            f"before them. It can be neither scored nor steered token by token; use a "
            f"decoder-only model."
        )
    return _KNOWN[model]


def check_steering(model: Any, scope: Scope) -> None:
    """Refuse to steer a model of an untested family whose steering depends on the cache.

    Args:
        model: See :func:`reading_of`.
        scope: Steers the model.

    Raises:
        InputError: Steered passes with a cache differ from those without one, or a cache does not
            report its length.
    """
    if str(model.config.model_type) in TESTED or not reading_of(model).cached:
        return
    if not measure(model, scope).cached:
        raise InputError(
            f"{type(model).__name__} ({model.config.model_type}) is steered otherwise with its "
            f"cache than without one, so that its generations would be wrong. Use a model of a "
            f"tested family, see docs/families.md."
        )


@torch.no_grad()
def measure(model: Any, scope: Scope = lambda end: nullcontext()) -> Reading:
    """Return how a model reads, by a few short passes, inside a scope; see :func:`reading_of`."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(text_config(model).vocab_size)
    made = torch.randint(vocabulary // 4, vocabulary // 2, (_LONG,), generator=generator)
    rows = [made.tolist(), made[:_SHORT].tolist()]
    with scope(_LONG - 1):
        tokens, padded = _generated(model, rows)
    with scope(_LONG - 1):
        whole = _logits(model, [*rows[0], *tokens[0]])
        beginning = _logits(model, rows[0])
    with scope(_SHORT - 1):
        short = _logits(model, [*rows[1], *tokens[1]])
    close = rounding_of(model, float(whole.std()))

    def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
        return float((found - expected).abs().max()) <= close

    return Reading(
        causal=same(beginning, whole[:_LONG]),
        cached=same(padded[0], whole[_LONG - 1 : -1]),
        masks_padding=same(padded[1], short[_SHORT - 1 : -1]),
    )


def rounding_of(model: Any, spread: float) -> float:
    """Return by how much rounding may change a model's logits of this standard deviation."""
    precise = model.dtype in (torch.float32, torch.float64)
    return (_CLOSE if precise else _CLOSE_IN_HALF_PRECISION) * spread


def _generated(model: Any, rows: list[list[int]]) -> tuple[list[list[int]], torch.Tensor]:
    """Return new tokens of each row, and the logits before each: (rows, new, vocabulary)."""
    batch = padded_batch(rows, device=model.get_input_embeddings().weight.device)
    found = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=_NEW,
        min_new_tokens=_NEW,
        do_sample=False,
        num_beams=1,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.stack(found.logits, dim=1).float().cpu()
    return found.sequences[:, -_NEW:].tolist(), logits


def _logits(model: Any, tokens: list[int]) -> torch.Tensor:
    ids = torch.tensor([tokens], device=model.get_input_embeddings().weight.device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits.float().cpu()

"""Token windows to train on, all of them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.run_folder import digest

#: Label of what is not learnt, as torch's cross-entropy has it.
IGNORED = -100
Tokens = npt.NDArray[np.int32]
#: Documents that are tokenized at once.
_CHUNK = 1000


class ExampleSource(Protocol):
    """Where the loop gets its windows from; a resumed run gets what an undisturbed one gets."""

    @property
    def identity(self) -> str:
        """What tells these examples from others."""
        ...

    def batch(self, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
        """Return inputs and labels of a step, int32, each of shape (size, window)."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Return what :meth:`restore` needs to go on from here."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; an empty one is the beginning."""
        ...


@dataclass(frozen=True)
class Examples:
    """What a run learns from.

    Attributes:
        inputs: Token ids, int32, shape (n, window); padded at the end.
        labels: What is to be predicted, int32, shape (n, window): the same ids, or ``IGNORED``
            on padding.
    """

    inputs: Tokens
    labels: Tokens

    def __post_init__(self) -> None:
        if not len(self.inputs):
            raise InputError("The corpus is empty; expected at least one document.")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def identity(self) -> str:
        """Hash of all tokens and labels."""
        return digest(self.inputs.tobytes(), self.labels.tobytes())

    def batch(self, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
        """Return inputs and labels of a step, each of shape (size, window).

        The order follows from the step alone: every epoch is a permutation drawn from seed and
        epoch. A run that resumes at a step therefore sees what an undisturbed run sees.
        """
        positions = np.arange(step * size, (step + 1) * size)
        epochs, offsets = np.divmod(positions, len(self))
        orders = [_order(len(self), seed, int(epoch)) for epoch in epochs]
        rows = np.array([order[o] for order, o in zip(orders, offsets, strict=True)])
        return self.inputs[rows], self.labels[rows]

    def state(self) -> Mapping[str, Any]:
        """Return nothing: the step says it all."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: the step says it all."""


def pack_documents(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, window: int
) -> Examples:
    """Fill windows with whole documents, each closed by the end-of-sequence token.

    A document longer than a window is cut into pieces of a window's length. A piece that does not
    fit beside the ones before it opens the next window, so that documents start where prompts
    do: at the beginning.

    Args:
        documents: Texts.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens a window.

    Raises:
        InputError: No document, or a tokenizer without an end-of-sequence token.
    """
    rows: list[list[int]] = []
    for piece in _pieces(documents, tokenizer, window):
        if rows and len(rows[-1]) + len(piece) <= window:
            rows[-1].extend(piece)
        else:
            rows.append(piece)
    return Examples(filled(rows, window, 0), filled(rows, window, IGNORED))


def answer_examples(
    turns: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, window: int
) -> Examples:
    """Put each prompt with its answer into a window; only the answer and its end are learnt.

    Args:
        turns: Prompts and answers; an answer begins where the prompt ends, spaces included.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens a window.

    Raises:
        InputError: No turn, a turn that does not fit, or no end-of-sequence token.
    """
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    for prompt, answer in turns:
        before = tokenizer(prompt)["input_ids"]
        after = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        if len(before) + len(after) > window:
            raise InputError(
                f"{prompt!r} with its answer has {len(before) + len(after)} tokens; a window holds "
                f"{window}."
            )
        inputs.append(before + after)
        labels.append([IGNORED] * len(before) + after)
    return Examples(filled(inputs, window, 0), filled(labels, window, IGNORED))


def joined(*parts: Examples) -> Examples:
    """Return the examples of all parts, which share one window."""
    return Examples(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


@lru_cache(maxsize=2)
def _order(number: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(number)


def _pieces(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, window: int
) -> Iterator[list[int]]:
    require_end_token(tokenizer)
    for chunk in _chunks(documents):
        for ids in tokenizer(chunk, verbose=False)["input_ids"]:
            yield from cut([*ids, tokenizer.eos_token_id], window)


def require_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without an end-of-sequence token."""
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has no end-of-sequence token to separate documents with.")


def cut(ids: list[int], window: int) -> Iterator[list[int]]:
    """Yield pieces of at most a window's length."""
    for start in range(0, len(ids), window):
        yield ids[start : start + window]


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    collected: list[str] = []
    for document in documents:
        collected.append(document)
        if len(collected) == _CHUNK:
            yield collected
            collected = []
    if collected:
        yield collected


def filled(rows: list[list[int]], window: int, padding: int) -> Tokens:
    """Return rows, padded at the end, as one array of shape (n, window)."""
    array = np.full((len(rows), window), padding, dtype=np.int32)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return array

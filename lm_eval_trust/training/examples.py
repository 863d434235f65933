"""Token windows to train on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from lm_eval_trust.errors import InputError

#: Label of what is not learnt, as torch's cross-entropy has it.
IGNORED = -100
Tokens = npt.NDArray[np.int32]
#: Documents that are tokenized at once.
_CHUNK = 1000


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
    return Examples(_filled(rows, window, 0), _filled(rows, window, IGNORED))


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
    return Examples(_filled(inputs, window, 0), _filled(labels, window, IGNORED))


def joined(*parts: Examples) -> Examples:
    """Return the examples of all parts, which share one window."""
    return Examples(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def batch(examples: Examples, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
    """Return inputs and labels of a step, each of shape (size, window).

    The order follows from the step alone: every epoch is a permutation drawn from seed and epoch.
    A run that resumes at a step therefore sees what an undisturbed run sees.
    """
    positions = np.arange(step * size, (step + 1) * size)
    epochs, offsets = np.divmod(positions, len(examples))
    orders = [_order(len(examples), seed, int(epoch)) for epoch in epochs]
    rows = np.array([order[o] for order, o in zip(orders, offsets, strict=True)])
    return examples.inputs[rows], examples.labels[rows]


@lru_cache(maxsize=2)
def _order(number: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(number)


def _pieces(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, window: int
) -> Iterator[list[int]]:
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has no end-of-sequence token to separate documents with.")
    for chunk in _chunks(documents):
        for ids in tokenizer(chunk, verbose=False)["input_ids"]:
            closed = [*ids, tokenizer.eos_token_id]
            for start in range(0, len(closed), window):
                yield closed[start : start + window]


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    collected: list[str] = []
    for document in documents:
        collected.append(document)
        if len(collected) == _CHUNK:
            yield collected
            collected = []
    if collected:
        yield collected


def _filled(rows: list[list[int]], window: int, padding: int) -> Tokens:
    filled = np.full((len(rows), window), padding, dtype=np.int32)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    return filled

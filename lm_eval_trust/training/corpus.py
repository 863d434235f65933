"""A corpus as token windows in memory: reading files, making a tokenizer, packing documents.

A corpus too large for memory is read by :mod:`lm_eval_trust.training.streaming`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.run_folder import digest

#: Label of tokens without a loss; the one that torch's cross-entropy ignores.
IGNORED = -100
Tokens = npt.NDArray[np.int32]
#: Documents tokenized at once.
_CHUNK = 1000
#: Vocabulary of a tokenizer made here: special tokens, and what a word is.
SPECIALS = ("<pad>", "</s>")
WORD = r" ?[^\s.?,!]+|[.?,!]|\s"


def read_documents(paths: Sequence[Path], *, field: str = "text") -> Iterator[str]:
    """Yield the documents of files in the given order.

    A ``.jsonl`` file has one document per line, in ``field``. Any other file is plain text in UTF-8
    with blank lines between documents.

    Raises:
        InputError: A file is missing or not UTF-8, or a line is not an object with that field.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"No corpus file {path}; expected plain text (UTF-8) or .jsonl.")
        try:
            yield from _json_lines(path, field) if path.suffix == ".jsonl" else _paragraphs(path)
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from error


def _json_lines(path: Path, field: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)[field]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: expected a JSON object with the field {field!r}."
                ) from error
            if not isinstance(document, str):
                raise InputError(f"{path}, line {number}: {field!r} is not text.")
            yield document


def _paragraphs(path: Path) -> Iterator[str]:
    collected: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                collected.append(line.rstrip("\n"))
            elif collected:
                yield "\n".join(collected)
                collected = []
    if collected:
        yield "\n".join(collected)


def build_tokenizer(texts: Iterable[str], *, size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with a token for each byte and for each of the most frequent words.

    Any other spelling of a word, such as one with flipped letter case, is written in bytes, so
    nothing is out of vocabulary and a perturbation stays visible. Equally frequent words are
    ordered by spelling: the same texts give the same tokenizer.

    Args:
        texts: The corpus.
        size: Largest number of tokens, including special tokens and the 256 bytes.
        max_length: Longest input of the model, in tokens.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    base = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = sorted((word for word in counts if len(word) > 1), key=lambda w: (-counts[w], w))
    vocabulary = {token: i for i, token in enumerate([*base, *words[: max(0, size - len(base))]])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # nosec B106: a token of text
        eos_token="</s>",
        bos_token="</s>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


class ExampleSource(Protocol):
    """Source of the loop's windows; a resumed run gets the same ones as an uninterrupted run."""

    @property
    def identity(self) -> str:
        """A name or a hash that no other examples have."""
        ...

    def batch(self, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
        """Return inputs and labels of a step, int32, each of shape (size, window)."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Return what :meth:`restore` needs to continue from here."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; an empty one is the beginning."""
        ...


@dataclass(frozen=True)
class Examples:
    """Windows of a corpus that is held in memory.

    Attributes:
        inputs: Token ids, int32, shape (n, window), padded at the end.
        labels: The ids to predict, int32, shape (n, window): the inputs, or ``IGNORED`` where
            nothing is learnt.
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

        The step alone decides: every epoch is a permutation drawn from seed and epoch. A run that
        resumes at a step therefore sees the same batches as an uninterrupted one.
        """
        rows = self.rows(step, size, seed)
        return self.inputs[rows], self.labels[rows]

    def rows(self, step: int, size: int, seed: int) -> npt.NDArray[np.int64]:
        """Return the positions of a step's windows, shape (size,); see :meth:`batch`."""
        positions = np.arange(step * size, (step + 1) * size)
        epochs, offsets = np.divmod(positions, len(self))
        orders = [_order(len(self), seed, int(epoch)) for epoch in epochs]
        return np.array([order[o] for order, o in zip(orders, offsets, strict=True)])

    def state(self) -> Mapping[str, Any]:
        """Return an empty state: batches depend on the step alone."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: batches depend on the step alone."""


def pack_documents(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, window: int
) -> Examples:
    """Fill windows with whole documents, each followed by the end-of-sequence token.

    A document longer than a window is cut into pieces of a window's length. A piece that does not
    fit into the current window opens the next one, so many documents start where prompts do:
    at the first position.

    Args:
        documents: Texts.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens per window.

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
        turns: Prompts and answers; any space between the two belongs to one of them.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens per window.

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
    """Return the examples of all parts, whose windows have the same length."""
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
    """Refuse a tokenizer without an end-of-sequence token.

    Raises:
        InputError: It has none.
    """
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has no end-of-sequence token to separate documents with.")


def cut(ids: list[int], window: int) -> Iterator[list[int]]:
    """Yield pieces of at most ``window`` tokens."""
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

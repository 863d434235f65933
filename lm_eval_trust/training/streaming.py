"""Corpora by name: files, or a data set of the Hub streamed during training, never in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.training.corpus import (
    IGNORED,
    ExampleSource,
    Tokens,
    build_tokenizer,
    cut,
    filled,
    pack_documents,
    read_documents,
    require_end_token,
)

#: Prefix of a data set of the Hub where a corpus is named.
PREFIX = "hub:"


class DocumentStream(Protocol):
    """The part of ``datasets.IterableDataset`` that is used here."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield rows."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last yielded row."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start the next iteration at a position."""
        ...


class StreamedExamples:
    """Windows as :func:`~lm_eval_trust.training.corpus.pack_documents` makes them, in stream order.

    There is no shuffling: its buffer would be lost with a killed run, and corpora of this size are
    published in random order. After the last document the data set starts again.

    Args:
        documents: The data set.
        field: Column that holds the text.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens per window.
        identity: Name, commit and split of the corpus.
    """

    def __init__(
        self,
        documents: DocumentStream,
        field: str,
        tokenizer: PreTrainedTokenizerBase,
        window: int,
        identity: str,
    ) -> None:
        require_end_token(tokenizer)
        self._documents, self._field = documents, field
        self._tokenizer, self._window = tokenizer, window
        self._identity = identity
        self._beginning = deepcopy(documents.state_dict())
        self._rows = iter(documents)
        self._epoch_rows = 0
        self._open: list[int] = []
        self._pieces: list[list[int]] = []

    @property
    def identity(self) -> str:
        """Name, commit and split of the corpus; its text is too long to be hashed."""
        return self._identity

    def batch(self, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
        """Return the next windows; steps have to be asked for in order.

        Raises:
            InputError: A row has no text in the field, or the data set is empty.
            ExternalError: Reading the data set failed.
        """
        rows = [self._next_window() for _ in range(size)]
        return filled(rows, self._window, 0), filled(rows, self._window, IGNORED)

    def state(self) -> Mapping[str, Any]:
        """Return the position in the data set and the tokens read but not yet given out."""
        state = {
            "documents": self._documents.state_dict(),
            "epoch_rows": self._epoch_rows,
            "open": self._open,
            "pieces": self._pieces,
        }
        return deepcopy(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; an empty one is the beginning."""
        self._documents.load_state_dict(deepcopy(state.get("documents", self._beginning)))
        self._rows = iter(self._documents)
        self._epoch_rows = state.get("epoch_rows", 0)
        self._open = list(state.get("open", []))
        self._pieces = list(state.get("pieces", []))

    def _next_window(self) -> list[int]:
        while True:
            while self._pieces:
                if self._open and len(self._open) + len(self._pieces[0]) > self._window:
                    window, self._open = self._open, []
                    return window
                self._open.extend(self._pieces.pop(0))
            ids = self._tokenizer(self._next_document(), verbose=False)["input_ids"]
            self._pieces = list(cut([*ids, self._tokenizer.eos_token_id], self._window))

    def _next_document(self) -> str:
        row = self._next_row()
        if row is None:
            if not self._epoch_rows:
                raise InputError(f"{self._identity} is empty; expected at least one document.")
            self.restore({"open": self._open, "pieces": self._pieces})
            return self._next_document()
        self._epoch_rows += 1
        text = row.get(self._field)
        if not isinstance(text, str):
            raise InputError(
                f"{self._identity}: a row has no text in {self._field!r}; it has "
                f"{', '.join(row)}. Name the column with --field."
            )
        return text

    def _next_row(self) -> Mapping[str, Any] | None:
        try:
            return next(self._rows, None)
        except Exception as error:
            raise ExternalError(
                f"Reading {self._identity} failed: {error}. What was trained is kept; run the "
                f"command again to continue."
            ) from error


@dataclass(frozen=True)
class HubCorpus:
    """A data set of the Hugging Face Hub as a corpus.

    Attributes:
        name: ``owner/name``.
        revision: Commit, tag or branch.
        subset: Configuration of the data set, if it has several.
        split: Split, e.g. ``train``.
        field: Column that holds the text.
    """

    name: str
    revision: str = "main"
    subset: str | None = None
    split: str = "train"
    field: str = "text"

    @classmethod
    def parse(cls, spec: str, *, subset: str | None, split: str, field: str) -> HubCorpus:
        """Return the corpus of ``hub:owner/name`` or ``hub:owner/name@revision``.

        Raises:
            InputError: The name is missing.
        """
        name, _, revision = spec.removeprefix(PREFIX).partition("@")
        if not name:
            raise InputError(f"{spec!r} names no data set; expected hub:owner/name[@revision].")
        return cls(name, revision or "main", subset, split, field)

    def open(self, tokenizer: PreTrainedTokenizerBase, window: int) -> StreamedExamples:
        """Return the windows of the data set, pinned to the commit that the revision names now.

        Raises:
            InputError: There is no such data set, revision, configuration or split.
            ExternalError: The Hub cannot be reached.
        """
        import datasets
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            commit = HfApi().dataset_info(self.name, revision=self.revision).sha
            rows = datasets.load_dataset(
                self.name, self.subset, split=self.split, revision=commit, streaming=True
            )
        except RepositoryNotFoundError as error:
            raise InputError(
                f"The Hub has no data set {self.name!r}, or it needs a login (`hf auth login`)."
            ) from error
        except RevisionNotFoundError as error:
            raise InputError(f"{self.name} has no revision {self.revision!r}.") from error
        except ValueError as error:  # what datasets raises for unknown splits and configurations
            raise InputError(f"{self.name}: {error}") from error
        except Exception as error:
            raise ExternalError(f"Cannot open {self.name} on the Hub: {error}") from error
        parts = (f"{PREFIX}{self.name}@{commit}", self.subset, self.split, self.field)
        identity = " ".join(part for part in parts if part)
        return StreamedExamples(rows, self.field, tokenizer, window, identity)


def open_corpus(
    specs: Sequence[str],
    window: int,
    *,
    tokenizer: str | None,
    vocabulary: int,
    max_length: int,
    field: str,
    subset: str | None,
    split: str,
) -> tuple[PreTrainedTokenizerFast, ExampleSource]:
    """Return the tokenizer and the windows of a corpus, from files or streamed from the Hub.

    Args:
        specs: Files, or one ``hub:owner/name[@revision]``.
        window: Tokens per window.
        tokenizer: Folder or Hub name; ``None`` to make one from the files.
        vocabulary: Largest size of a tokenizer made here.
        max_length: Longest input of the model, in tokens.
        field: Field of ``.jsonl`` lines, or column of a data set, that holds the text.
        subset: Configuration of a data set of the Hub.
        split: Split of a data set of the Hub.

    Raises:
        InputError: A file or data set is missing or empty, or a streamed corpus without tokenizer.
        ExternalError: The Hub cannot be reached.
    """
    streamed = [spec for spec in specs if spec.startswith(PREFIX)]
    if streamed:
        if len(specs) > 1:
            raise InputError(f"--corpus takes one data set of the Hub alone, not {specs}.")
        if tokenizer is None:
            raise InputError("A streamed corpus needs --tokenizer; it is not read twice.")
        corpus = HubCorpus.parse(streamed[0], subset=subset, split=split, field=field)
        loaded = _load_tokenizer(tokenizer)
        return loaded, corpus.open(loaded, window)
    documents = list(read_documents([Path(spec) for spec in specs], field=field))
    loaded = (
        build_tokenizer(documents, size=vocabulary, max_length=max_length)
        if tokenizer is None
        else _load_tokenizer(tokenizer)
    )
    return loaded, pack_documents(documents, loaded, window)


def _load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    with loading_errors(f"the tokenizer {name}"):
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(name)
    return tokenizer

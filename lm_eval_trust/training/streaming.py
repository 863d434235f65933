"""Token windows of a corpus that is read while training goes on, and never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.training.examples import IGNORED, Tokens, cut, filled, require_end_token


class DocumentStream(Protocol):
    """What is needed of a streamed data set; ``datasets.IterableDataset`` has it."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield rows."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the row that was yielded last."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next iteration at a place."""
        ...


class StreamedExamples:
    """Windows packed as :func:`pack_documents` packs them, in the data set's own order.

    The order is not shuffled: a buffer to shuffle in would be lost with a killed run, and corpora
    of this size are published in random order. After its last document the data set begins anew.

    Args:
        documents: The data set.
        field: Column that holds the text.
        tokenizer: Needs an end-of-sequence token.
        window: Tokens a window.
        identity: What tells this corpus from others: name, commit, split.
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
        """Name of the corpus; its text is too long to be hashed."""
        return self._identity

    def batch(self, step: int, size: int, seed: int) -> tuple[Tokens, Tokens]:
        """Return the next windows, whatever the step: steps are asked for in order.

        Raises:
            InputError: A row has no text in the field, or the data set is empty.
            ExternalError: The data set could not be read on.
        """
        rows = [self._next_window() for _ in range(size)]
        return filled(rows, self._window, 0), filled(rows, self._window, IGNORED)

    def state(self) -> Mapping[str, Any]:
        """Return the place in the data set and what was read but not yet given out."""
        state = {
            "documents": self._documents.state_dict(),
            "epoch_rows": self._epoch_rows,
            "open": self._open,
            "pieces": self._pieces,
        }
        return deepcopy(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; an empty one is the beginning."""
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
                f"{self._identity} could not be read on: {error}. What was trained is kept; run "
                f"again to go on."
            ) from error

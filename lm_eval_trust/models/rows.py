"""Rows for the model to read: token sequences, and trees of sequences with a common beginning.

Many data sets state several things of one question or context. In a tree row the common
beginning stands once: each token sees its ancestors only, at the position that it has in its own
statement, so that every statement is computed as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

#: A statement joins a tree when at least one token in this many is shared.
_WORTHWHILE = 4
#: Attention is quadratic in a row's length; longer trees cost more than they save.
_LONGEST_TREE = 256


@dataclass
class Row:
    """One row of a batch, a tree of tokens; a plain sequence is a tree without branches.

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
        shared = _common(previous, tokens)
        fits = rows and len(rows[-1]) + len(tokens) - shared <= _LONGEST_TREE
        if not fits or shared * _WORTHWHILE < len(tokens):
            rows.append(Row())
            shared = 0
        path = rows[-1].append(statement, path[:shared], tokens[shared:])
        previous = tokens
    return rows


def batches(rows: Sequence[Row], *, tokens: int) -> Iterator[list[Row]]:
    """Yield the rows, shortest first, in batches of at most ``tokens`` tokens with padding.

    A row that is longer than that is a batch by itself.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))

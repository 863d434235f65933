"""The partition after Li et al. (2023): development and test, training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lm_eval_trust.errors import InputError, unknown_name
from lm_eval_trust.hashing import content_id

Split = Literal["grouped", "random"]
SPLITS: tuple[Split, ...] = ("grouped", "random")


@dataclass(frozen=True)
class Partition:
    """Positions of the items in each part, ascending; every item is in exactly one.

    Attributes:
        train: Training part, four fifths of the development half.
        validation: Validation part, one fifth of the development half.
        test: Test half.
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    @property
    def development(self) -> npt.NDArray[np.int64]:
        """Development half: training and validation part together."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def part(self, name: str) -> npt.NDArray[np.int64]:
        """Return the positions of ``train``, ``validation``, ``development``, ``test`` or ``all``.

        Raises:
            InputError: No part has that name.
        """
        parts = {
            "train": self.train,
            "validation": self.validation,
            "development": self.development,
            "test": self.test,
            "all": np.sort(np.concatenate([self.train, self.validation, self.test])),
        }
        if name not in parts:
            raise unknown_name("part", name, parts)
        return parts[name]


def partition(groups: Sequence[str], *, split: str = "grouped", seed: int = 0) -> Partition:
    """Divide items into development : test = 1 : 1 and development into train : validation = 4 : 1.

    ``grouped`` deals whole groups, so that all items of one question, context, sentence or
    duplicate lie on one side; the ratios hold for the number of groups (halves are rounded up for
    development, fifths rounded down for validation). ``random`` deals single items, as the paper
    does; the ratios hold for the number of items. The order of dealing depends on the ids and the
    seed alone, so statements and task rows over the same groups agree on who is on which side.

    Args:
        groups: Group id of each item.
        split: ``grouped`` or ``random``.
        seed: Seed of the dealing order.

    Raises:
        InputError: Unknown split, or fewer than two units to deal.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if split == "grouped":
        units = list(groups)
    else:
        units = [content_id(group, position) for position, group in enumerate(groups)]
    dealt = sorted(set(units), key=lambda unit: content_id(seed, unit))
    if len(dealt) < 2:
        raise InputError(
            f"Cannot split {len(dealt)} group(s) in two halves; at least 2 are needed."
        )
    development = (len(dealt) + 1) // 2
    train = development - development // 5
    rank = {unit: position for position, unit in enumerate(dealt)}
    ranks = np.array([rank[unit] for unit in units], dtype=np.int64)
    return Partition(
        train=np.flatnonzero(ranks < train),
        validation=np.flatnonzero((ranks >= train) & (ranks < development)),
        test=np.flatnonzero(ranks >= development),
    )

"""The partition after Li et al. (2023): development and test, training and validation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import content_id

Split = Literal["grouped", "random"]
SPLITS: tuple[Split, ...] = ("grouped", "random")

_TRAIN, _VALIDATION, _TEST = 0, 1, 2


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


def partition(
    groups: Sequence[str],
    *,
    split: str = "grouped",
    seed: int = 0,
    universe: Sequence[Collection[str]] = (),
) -> Partition:
    """Divide items into development : test = 1 : 1 and development into train : validation = 4 : 1.

    ``grouped`` deals whole groups, so all items of one question, context, sentence or
    duplicate lie on one side; the ratios hold for the number of groups (halves are rounded up for
    development, fifths rounded down for validation). ``random`` deals single items, as the paper
    does; the ratios hold for the number of items. The order of dealing depends on the ids and the
    seed alone.

    Two sets that hold different items of one benchmark (statements and task rows, the official
    and the released files) agree on who is on which side when they name the same ``universe``:
    the groups are then dealt over the universe's strata, not over the groups available.

    Args:
        groups: Group id of each item.
        split: ``grouped`` or ``random``.
        seed: Seed of the dealing order.
        universe: Disjoint strata of group ids, each dealt in itself; by default one stratum of
            the groups given. Only ``grouped`` uses it.

    Raises:
        InputError: Unknown split, fewer than two units to deal, or a group outside the universe.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if split == "grouped":
        units = list(groups)
        strata: Sequence[Collection[str]] = universe or (units,)
    else:
        units = [content_id(group, position) for position, group in enumerate(groups)]
        strata = (units,)
    sides: dict[str, int] = {}
    for stratum in strata:
        sides.update(_deal(stratum, seed))
    if len(sides) < 2:
        raise InputError(
            f"Cannot split {len(sides)} group(s) in two halves; at least 2 are needed."
        )
    return _collect(units, sides)


def _deal(stratum: Collection[str], seed: int) -> dict[str, int]:
    """Return the side of each unit of one stratum."""
    dealt = sorted(set(stratum), key=lambda unit: content_id(seed, unit))
    development = (len(dealt) + 1) // 2
    train = development - development // 5
    return {
        unit: _TRAIN if rank < train else _VALIDATION if rank < development else _TEST
        for rank, unit in enumerate(dealt)
    }


def _collect(units: Sequence[str], sides: dict[str, int]) -> Partition:
    foreign = [unit for unit in units if unit not in sides]
    if foreign:
        raise InputError(
            f"{len(foreign)} item(s) belong to groups outside the benchmark's universe, e.g. "
            f"{foreign[0]}; pass the universe that the items were read with."
        )
    side = np.array([sides[unit] for unit in units], dtype=np.int64)
    return Partition(
        train=np.flatnonzero(side == _TRAIN),
        validation=np.flatnonzero(side == _VALIDATION),
        test=np.flatnonzero(side == _TEST),
    )

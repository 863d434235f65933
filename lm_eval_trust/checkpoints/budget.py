"""How much of the disk checkpoints may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lm_eval_trust.core.errors import InputError


@dataclass(frozen=True)
class Budget:
    """What may lie on the disk at any moment, partial downloads included.

    Attributes:
        bytes: In all; no limit if ``None``.
        checkpoints: Their number; no limit if ``None``. Two let the next one come while one is
            used.
    """

    bytes: int | None = None
    checkpoints: int | None = None

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            InputError: A limit is below 1.
        """
        for name, limit in (("bytes", self.bytes), ("checkpoints", self.checkpoints)):
            if limit is not None and limit < 1:
                raise InputError(f"A budget of {limit} {name} holds nothing; expected at least 1.")

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.bytes is not None or self.checkpoints is not None

    def __str__(self) -> str:
        limits = (("bytes", self.bytes), ("checkpoints", self.checkpoints))
        return " and ".join(f"{limit:,} {name}" for name, limit in limits if limit is not None)

    def holds(self, sizes: Iterable[int]) -> bool:
        """Tell whether checkpoints of these sizes may lie there together."""
        taken = list(sizes)
        return (self.bytes is None or sum(taken) <= self.bytes) and (
            self.checkpoints is None or len(taken) <= self.checkpoints
        )

"""What a worker tells while it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A cell is being computed."""

    cell: str


@dataclass(frozen=True)
class Finished:
    """A cell is there, computed in so many seconds."""

    cell: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A cell could not be computed; ``exit_code`` is 2 for wrong input, 3 for anything else."""

    cell: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class Skipped:
    """A model is not to be had, so that none of its cells can be computed."""

    model: str
    reason: str


@dataclass(frozen=True)
class JobDone:
    """A job is over.

    Attributes:
        download_seconds: Spent downloading for it, in the background or not.
        compute_seconds: From the model's being there to the end.
    """

    download_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True)
class Lost:
    """The worker itself is gone, with what it was doing."""

    reason: str


Event = Started | Finished | Failed | Skipped | JobDone | Lost

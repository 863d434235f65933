"""One checkpoint of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """Where one state of a model in training is found, and how far it had come.

    Attributes:
        name: Its name in tables and files, e.g. ``ckpt_179`` or ``step1000``.
        step: Its place in the order of the family: training step, or running number.
        tokens: Tokens that the model had seen, where that is known.
        location: Hub name, local folder, or ``mini@NAME`` of the embedded family.
        revision: Revision on the Hub; ``None`` for what is on this disk already.
    """

    name: str
    step: int
    tokens: int | None
    location: str
    revision: str | None

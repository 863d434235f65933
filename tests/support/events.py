"""What TensorBoard reads in its event files."""

from __future__ import annotations

from pathlib import Path

import pytest


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag → (step, value) of the event files in a folder, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }

"""The losses of a run, one JSON line each, for plots."""

from __future__ import annotations

import json
from pathlib import Path

LOSSES = "losses.jsonl"
#: Lines of a run, about: a step's loss is averaged with those since the line before.
_LINES = 1000


class LossLog:
    """Appends ``{"step", "loss", "learning_rate"}`` to a run's folder.

    Losses are nats a token, averaged over the steps since the line before; ``step`` counts the
    steps taken.

    Args:
        folder: Of the run.
        start: Step that the run goes on from; lines after it are cut off.
        last: Step that it ends with.
        writes: Whether this process writes at all.
    """

    def __init__(self, folder: Path, *, start: int, last: int, writes: bool) -> None:
        self._file, self._writes = folder / LOSSES, writes
        self._every = max(1, last // _LINES)
        self._losses: list[float] = []
        self._latest = (start, 0.0)
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [line for line in self._lines() if json.loads(line)["step"] <= start]
            self._file.write_text("".join(kept), encoding="utf-8")

    def add(self, step: int, loss: float, rate: float) -> None:
        """Take note of a step."""
        self._losses.append(loss)
        self._latest = (step + 1, rate)
        if (step + 1) % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the line of the steps since the one before."""
        if not self._losses:
            return
        step, rate = self._latest
        line = {"step": step, "loss": sum(self._losses) / len(self._losses), "learning_rate": rate}
        self._losses = []
        if self._writes:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _lines(self) -> list[str]:
        if not self._file.exists():
            return []
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("}\n")]

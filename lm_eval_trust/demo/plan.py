"""What the demo does: which checkpoints, which vectors, which models in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.demo.cells import Cell
from lm_eval_trust.dimensions import DIMENSIONS, Dimension
from lm_eval_trust.mini.family import MiniFamily
from lm_eval_trust.mini.members import BASE, CHAT, SAFE

SUITE = ("trust_suite_mini", "trust_general_mini")
#: Steering of the table's rows, chosen once for all seeds and dimensions: a middle block, and a
#: strength that the sweep over α shows in its neighbourhood.
LAYER, ALPHA = 2, 2.0
#: Of the checkpoint that vectors come from: two thirds of the way through pre-training.
MID_SHARE = 2 / 3
SWEPT_ALPHAS = (-4.0, -2.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class VectorPlan:
    """One steering vector.

    Attributes:
        dimension: Of which dimension.
        source: From which model.
    """

    dimension: Dimension
    source: str

    @property
    def name(self) -> str:
        """Name of its file and in tables."""
        return f"{self.dimension.name}-{self.source.replace('@', '-')}"

    def arguments(self, folder: Path, alpha: float) -> dict[str, Any]:
        """Return the model arguments that steer by it."""
        return {"vector": str(self.file(folder)), "layer": LAYER, "alpha": alpha}

    def file(self, folder: Path) -> Path:
        """Return where it is kept."""
        return folder / f"{self.name}.safetensors"


@dataclass(frozen=True)
class TableRow:
    """One row of the table.

    Attributes:
        title: What stands at its left.
        model: Which member of the family.
        vector: What it is steered by, if anything.
    """

    title: str
    model: str
    vector: VectorPlan | None = None


def middle_checkpoint(family: MiniFamily) -> str:
    """Return the checkpoint next to two thirds of the way through pre-training."""
    wanted = MID_SHARE * family.recipe.pretraining.steps
    return min(family.checkpoints, key=lambda name: abs(family.checkpoints[name] - wanted))


def table_rows(family: MiniFamily) -> list[TableRow]:
    """Return the rows: the chat model, the safe one, and the chat model steered."""
    middle = f"{BASE}@{middle_checkpoint(family)}"
    rows = [TableRow(CHAT, CHAT), TableRow(SAFE, SAFE)]
    for dimension in DIMENSIONS:
        for source in (middle, CHAT):
            title = f"{CHAT} + v({dimension.name}, {source.replace(BASE + '@', '')})"
            rows.append(TableRow(title, CHAT, VectorPlan(dimension, source)))
    return rows


def suite_cell(row: TableRow, vectors: Path) -> Cell:
    """Return the evaluation of a row."""
    arguments: Mapping[str, Any] = {"pretrained": row.model}
    if row.vector is None:
        return Cell(f"table-{row.model}", "amber", arguments, SUITE)
    steering = row.vector.arguments(vectors, ALPHA)
    return Cell(f"table-{row.vector.name}", "steered_amber", {**arguments, **steering}, SUITE)


def sweep_cell(vector: VectorPlan, alpha: float, vectors: Path) -> Cell:
    """Return the evaluation of one strength: the dimension's own task, and perplexity."""
    arguments = {"pretrained": CHAT, **vector.arguments(vectors, alpha)}
    tasks = (f"{vector.dimension.task}_mini", "trust_world_text_mini")
    return Cell(f"sweep-{vector.name}-{alpha:g}", "steered_amber", arguments, tasks)

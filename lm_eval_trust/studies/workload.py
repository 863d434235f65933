"""How much models read and write for statements and tasks, for estimates before a run."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.studies.cells import ActivationCell, AnalysisCell, Cell, EvaluationCell


@dataclass(frozen=True)
class Workload:
    """What a task asks of a model.

    Attributes:
        items: Of the whole task or group.
        tasks: Tasks in the group, each of which a limit cuts.
        read: Tokens read for an item, all its requests together.
        written: Tokens written for an item, at most.
    """

    items: int
    tasks: int
    read: float
    written: float


#: Counted with SmolLM2's tokenizer on the test halves of the official files (grouped split, seed
#: 0; ``trust_general`` as its local twins), and on the embedded world of seed 0.
TASKS: dict[str, Workload] = {}
#: Of a task that is not in the table.
UNKNOWN = Workload(1000, 1, 200.0, 16.0)
#: Dimension → tokens of a statement, and number of statements; counted likewise.
STATEMENTS: dict[str, tuple[float, int]] = {
    "reliability": (27.5, 5030),
    "toxicity": (21.9, 5428),
    "privacy": (15.3, 2254),
    "fairness": (18.7, 4246),
    "robustness": (26.2, 1734),
    "universal": (82.7, 4212),
}
MINI_STATEMENTS: dict[str, tuple[float, int]] = {
    "reliability": (14.4, 300),
    "toxicity": (8.8, 288),
    "privacy": (12.2, 432),
    "fairness": (9.0, 270),
    "robustness": (11.9, 800),
    "universal": (20.4, 672),
}
#: Seconds of probes and dependence with its null, one layer of 2,000 statements at width 4,096 on
#: two cores (docs/analysis.md).
ANALYSIS_SECONDS = 3.5
#: Blocks of a model whose layers are not told.
USUAL_BLOCKS = 32


def tokens_of(cell: Cell) -> tuple[float, float]:
    """Return tokens that a cell makes a model read and write."""
    if isinstance(cell, ActivationCell):
        table = MINI_STATEMENTS if cell.statements.source == "mini" else STATEMENTS
        length, known = table[cell.dimension]
        return length * min(known, cell.statements.number or known), 0.0
    if isinstance(cell, EvaluationCell):
        load = TASKS.get(cell.task, UNKNOWN)
        items = min(load.items, cell.limit * load.tasks) if cell.limit else load.items
        models = 3 if cell.proxy is not None else 1
        return models * items * load.read, models * items * load.written
    return 0.0, 0.0


def analysis_seconds(cell: Cell) -> float:
    """Return what an analysis takes; 0 for any other cell."""
    if not isinstance(cell, AnalysisCell):
        return 0.0
    layers = cell.settings.layers
    return ANALYSIS_SECONDS * (len(layers) if layers is not None else USUAL_BLOCKS)

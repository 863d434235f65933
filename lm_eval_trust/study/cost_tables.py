"""How much models read and write for statements and tasks, for estimates before a run."""

from __future__ import annotations

from lm_eval_trust.benchmarks.benchmark import Workload
from lm_eval_trust.benchmarks.load import data_of
from lm_eval_trust.benchmarks.registry import find_dimension, workload
from lm_eval_trust.study.cells import ActivationCell, AnalysisCell, Cell, EvaluationCell

#: Of a task that nobody has counted.
UNKNOWN = Workload(1000, 1, 200.0, 16.0)
#: Seconds of probes and dependence with its null, one layer of 2,000 statements at width 4,096 on
#: two cores (docs/analysis.md).
ANALYSIS_SECONDS = 3.5
#: Blocks of a model whose layers are not told.
USUAL_BLOCKS = 32


def tokens_of(cell: Cell) -> tuple[float, float]:
    """Return tokens that a cell makes a model read and write."""
    if isinstance(cell, ActivationCell):
        benchmark = find_dimension(cell.dimension).benchmark
        length, known = data_of(benchmark, cell.statements.source).statement_size
        return length * min(known, cell.statements.number or known), 0.0
    if isinstance(cell, EvaluationCell):
        load = workload(cell.task) or UNKNOWN
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

"""What evaluations gave, as one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lm_eval_trust.study.cells import EvaluationCell
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Grid

COLUMNS = {
    "evaluation": "string",
    "variant": "string",
    "model": "string",
    "step": "Int64",
    "tokens": "Int64",
    "source": "string",
    "source_step": "Int64",
    "dimension": "string",
    "layer": "string",
    "alpha": "float64",
    "proxy": "string",
    "adapter": "string",
    "task": "string",
    "metric": "string",
    "value": "float64",
    "stderr": "float64",
    "n": "Int64",
    "seed": "int64",
    "cell": "string",
}
#: Of these the first that a task has is the one that figures show.
MAIN_METRICS = ("trust_score", "f1", "acc", "exact_match", "acc_norm")
PERPLEXITIES = ("word_perplexity", "perplexity")


def evaluation_table(grid: Grid, folder: StudyFolder) -> pd.DataFrame:
    """Return a row for each finished evaluation, task and metric, in a stable order.

    Args:
        grid: The study's cells; a cell that two entries share has rows for both.
        folder: Where they are.
    """
    rows = [row for name, cells in grid.evaluations.items() for row in _entry(name, cells, folder)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = ["evaluation", "seed", "step", "model", "source_step", "source", "dimension"]
    order += ["layer", "alpha", "task", "metric", "cell"]
    return table.sort_values(order, ignore_index=True, kind="stable")


def main_metric(table: pd.DataFrame, task: str) -> str | None:
    """Return the metric of a task that figures show; ``None`` for perplexities and others."""
    known = set(table.loc[table["task"] == task, "metric"])
    return next((metric for metric in MAIN_METRICS if metric in known), None)


def perplexity_of(table: pd.DataFrame) -> tuple[str, str] | None:
    """Return task and metric of a perplexity in the table, if there is one."""
    found = table[table["metric"].isin(PERPLEXITIES)]
    return None if found.empty else (str(found["task"].iloc[0]), str(found["metric"].iloc[0]))


def _entry(
    name: str, cells: tuple[EvaluationCell, ...], folder: StudyFolder
) -> Iterator[dict[str, Any]]:
    for cell in dict.fromkeys(cells):
        record = folder.record(cell)
        if record is None:
            continue
        described = {"evaluation": name, **_described(cell)}
        items = record["result"]["items"]
        for task, scores in record["result"]["scores"].items():
            for metric, value, error in _metrics(scores):
                yield {
                    **described,
                    "task": task,
                    "metric": metric,
                    "value": value,
                    "stderr": error,
                    "n": items.get(task),
                }


def _described(cell: EvaluationCell) -> dict[str, Any]:
    point = cell.steering
    source = point.vector.activations if point else None
    return {
        "variant": cell.variant,
        "model": cell.model.name,
        "step": cell.model.step,
        "tokens": cell.model.tokens,
        "source": source.model.name if source else None,
        "source_step": source.model.step if source else None,
        "dimension": source.dimension if source else None,
        "layer": point.layer_text if point else None,
        "alpha": point.alpha if point else 0.0,
        "proxy": cell.proxy.expert.name if cell.proxy else None,
        "adapter": cell.adapter.identity if cell.adapter else None,
        "seed": cell.statements.seed,
        "cell": cell.name,
    }


def _metrics(scores: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Yield metric, value and standard error; the harness writes ``METRIC,FILTER``."""
    for key, value in scores.items():
        metric, comma, of_filter = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, float):
            continue
        error = scores.get(f"{metric}_stderr,{of_filter}")
        name = metric if of_filter == "none" else f"{metric},{of_filter}"
        yield name, value, error if isinstance(error, float) else float("nan")

"""Do probes of checkpoints predict benchmarks? Tables of it (arXiv 2402.19465, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.analysis.correlation import (
    StepCorrelation,
    correlate_over_steps,
    probe_matrix,
    raw_coefficients,
)
from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.core.errors import InputError

Row = dict[str, Any]
#: Name of the row that holds the mean of all contrasts.
ALL = "all"
#: What tells a series of checkpoints from others, beside its benchmark; the target is the model
#: that was steered by them.
SERIES = ("target", "layer", "alpha", "seed", "steered")
#: (Seed, checkpoint, dimension) → layer → accuracy.
Probes = Mapping[tuple[int, str, str], Mapping[str, float]]


def probes_of(measured: Mapping[int, Sequence[Measurement]]) -> Probes:
    """Return the accuracies of probes among the measurements of each seed."""
    found: dict[tuple[int, str, str], dict[str, float]] = {}
    for seed, rows in measured.items():
        for row in rows:
            if row.estimator == "probe_accuracy":
                of_layers = found.setdefault((seed, row.checkpoint, row.dimension), {})
                of_layers[str(row.layer)] = row.value
    return found


def correlation_points(scores: pd.DataFrame, probes: Probes) -> Iterator[Row]:
    """Yield each score of a checkpoint, or steered by one, with the checkpoint's probe.

    Args:
        scores: Rows of a study's evaluations, one metric for each task.
        probes: Result of :func:`probes_of`.
    """
    for found in scores.to_dict("records"):
        steered = not pd.isna(found["source"])
        name, step, dimension = (
            (found["source"], found["source_step"], found["dimension"])
            if steered
            else (found["model"], found["step"], _dimension_of(found["task"]))
        )
        if pd.isna(step) or dimension is None:
            continue
        for layer, probe in probes.get((int(found["seed"]), str(name), dimension), {}).items():
            if not steered or layer == found["layer"]:
                yield {
                    **{key: found[key] for key in ("evaluation", "task", "alpha", "seed")},
                    "target": found["model"] if steered else "",
                    "dimension": dimension,
                    "layer": layer,
                    "steered": steered,
                    "checkpoint": name,
                    "step": int(step),
                    "probe": probe,
                    "score": found["value"],
                }


def series_matrices(points: pd.DataFrame, probes: Probes) -> Iterator[tuple[Row, list[Row]]]:
    """Yield each series that is long enough, and the rows of all probes against its benchmarks.

    Args:
        points: Result of :func:`correlation_points`; of several tasks of a dimension, the first
            counts.
        probes: Result of :func:`probes_of`.
    """
    for values, chosen in points.groupby(list(SERIES)):
        series = dict(zip(SERIES, values, strict=True))
        first = chosen.drop_duplicates(["dimension", "checkpoint"])
        scores = first.pivot(index="step", columns="dimension", values="score").dropna()
        names = first.drop_duplicates("step").set_index("step")["checkpoint"]
        read: dict[str, list[float]] = {}
        for dimension in sorted({key[2] for key in probes}):
            cells = [probes.get((series["seed"], names[s], dimension), {}) for s in scores.index]
            if all(series["layer"] in cell for cell in cells):
                read[dimension] = [cell[series["layer"]] for cell in cells]
        benchmarks = {str(name): scores[name].tolist() for name in scores.columns}
        rows = matrix_rows(scores.index.tolist(), read, benchmarks)
        if rows:
            yield series, rows


def _dimension_of(task: str) -> str | None:
    """Return the dimension whose benchmark a task is a form of."""
    names = (d.name for d in DIMENSIONS if d.task and task.startswith(d.task))
    return next(names, None)


def pair_row(steps: Sequence[float], probe: Sequence[float], score: Sequence[float]) -> Row:
    """Return the correlation of a probe with a benchmark, or why there is none.

    Args:
        steps: Steps of the checkpoints, ascending.
        probe: Accuracy at each.
        score: The same.
    """
    try:
        return _described(correlate_over_steps(steps, probe, score)) | {"note": ""}
    except InputError as error:
        pearson, spearman = raw_coefficients(probe, score)
        raw = {"pearson": pearson, "spearman": spearman}
        return _described(None) | raw | {"note": str(error)}


def matrix_rows(
    steps: Sequence[float],
    probes: Mapping[str, Sequence[float]],
    benchmarks: Mapping[str, Sequence[float]],
) -> list[Row]:
    """Return a row for each probe and benchmark; none with too few checkpoints.

    The row of a dimension's own pair has its contrast with all others that its probe or its
    benchmark is part of, and a last row the mean of the contrasts. p of own pairs and of their
    contrasts are corrected for their number (Holm).

    Args:
        steps: Steps of the checkpoints, ascending.
        probes: Dimension → accuracy at each checkpoint.
        benchmarks: Dimension → score at each checkpoint, higher being better.
    """
    try:
        found = probe_matrix(steps, probes, benchmarks)
    except InputError:
        return []
    rows: list[Row] = []
    for (probe, benchmark), cell in found.cells.items():
        row: Row = {"probe": probe, "benchmark": benchmark, **_described(cell)}
        control = found.controls[probe] if probe == benchmark else None
        row["contrast"] = control.contrast if control else math.nan
        row["contrast_p"] = control.p if control else math.nan
        rows.append(row)
    own = [row for row in rows if row["probe"] == row["benchmark"]]
    for name in ("p", "contrast_p"):
        add_corrected(own, name)
    overall = {"contrast": found.overall.contrast, "contrast_p": found.overall.p}
    last = {"probe": ALL, "benchmark": ALL, **_described(None), **overall}
    blank = {"p_corrected": math.nan, "contrast_p_corrected": math.nan}
    return [blank | row for row in (*rows, last)]


def add_corrected(rows: Sequence[Row], name: str) -> None:
    """Add p corrected for the number of rows that have one (Holm), as ``NAME_corrected``."""
    tested = [row for row in rows if not math.isnan(row[name])]
    corrected = holm([row[name] for row in tested])
    for row in rows:
        row[f"{name}_corrected"] = math.nan
    for row, value in zip(tested, corrected, strict=True):
        row[f"{name}_corrected"] = value


def correlation_rows(points: pd.DataFrame, keys: Sequence[str]) -> list[Row]:
    """Return the correlation of each series of points, its p corrected for their number.

    Args:
        points: With ``step``, ``probe``, ``score`` and the keys.
        keys: Columns that identify a series.
    """
    rows = []
    for values, chosen in points.groupby(list(keys)):
        series = chosen.sort_values("step")
        described = dict(zip(keys, values, strict=True)) | {"checkpoints": len(series)}
        columns = (series[name].tolist() for name in ("step", "probe", "score"))
        rows.append(described | pair_row(*columns))
    add_corrected(rows, "p")
    return rows


def _described(found: StepCorrelation | None) -> Row:
    names = ("p", "innovations", "pearson", "spearman", "smallest_p", "axis", "degree", "rho")
    values = asdict(found) if found else {}
    return {name: values.get(name, math.nan) for name in names}

"""Do probes of checkpoints predict benchmarks? Tables of it (arXiv 2402.19465, Figure 5)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.comparison import holm
from lm_eval_trust.analysis.correlation import (
    LEAST_CHECKPOINTS,
    Control,
    StepCorrelation,
    correlate_over_steps,
    probe_matrix,
    raw_coefficients,
)
from lm_eval_trust.analysis.phases import enough_resamples
from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.benchmarks.registry import known_dimensions
from lm_eval_trust.core.errors import InputError

_LOG = logging.getLogger(__name__)
Row = dict[str, Any]
#: Name of the row that holds the means over all dimensions.
ALL = "all"
#: What distinguishes a series of checkpoints, beside its entry and benchmark: the target is the
#: model that was steered by them, and the action what was done with their vectors.
SERIES = ("action", "target", "layer", "alpha", "seed", "steered")
_PERMUTATIONS = 2000
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

    Proxies and adapters make another model of a checkpoint, so their scores are left out.

    Args:
        scores: Rows of a study's evaluations, one metric for each task.
        probes: Result of :func:`probes_of`.
    """
    changed = scores["proxy"].notna() | scores["adapter"].notna()
    for found in scores[~changed].to_dict("records"):
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
                    "action": found["action"] if steered else "",
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

    A dimension's benchmark is one task of it in one entry: of several tasks, the one with most
    checkpoints. Entries without a dimension in common are one series, others one each. What is
    left out is logged.

    Args:
        points: Result of :func:`correlation_points`.
        probes: Result of :func:`probes_of`.
    """
    own = points["task"].map(_dimension_of) == points["dimension"]
    logged: set[str] = set()
    for values, together in points[own].groupby(list(SERIES)):
        entries = [chosen for _, chosen in together.groupby("evaluation")]
        dimensions = [set(chosen["dimension"]) for chosen in entries]
        if sum(map(len, dimensions)) == len(set().union(*dimensions)):
            entries = [together]
        for chosen in entries:
            series = dict(zip(SERIES, values, strict=True))
            series["evaluation"] = "+".join(sorted(set(chosen["evaluation"])))
            rows, left_out = _series_rows(series, chosen, probes)
            # Once for all layers, α and seeds.
            for note in dict.fromkeys(f"{series['evaluation']}: {each}" for each in left_out):
                if note not in logged:
                    _LOG.warning("%s", note)
                    logged.add(note)
            if rows:
                yield series, rows


def _series_rows(series: Row, chosen: pd.DataFrame, probes: Probes) -> tuple[list[Row], list[str]]:
    """Return the rows of a series' matrix, and what it is without and why."""
    if (chosen.groupby("step")["checkpoint"].nunique() > 1).any():
        return [], [
            "Several checkpoints have the same step, so there is no order of them in which to "
            "correlate probes with benchmarks. Give each checkpoint of the family its own step."
        ]
    counts = chosen.groupby(["dimension", "task"])["checkpoint"].nunique()
    tasks = dict(counts.groupby(level=0).idxmax().tolist())
    rows_of = chosen[chosen["task"] == chosen["dimension"].map(tasks)]
    scores = rows_of.pivot(index="step", columns="dimension", values="score")
    numbers = scores.notna().sum()
    if numbers.max() < LEAST_CHECKPOINTS:
        return [], []
    left_out = [
        f"{name} has scores at {number} checkpoints only, so the matrix of probes and benchmarks "
        f"is without its benchmark."
        for name, number in numbers[numbers < LEAST_CHECKPOINTS].items()
    ]
    whole = scores[numbers.index[numbers >= LEAST_CHECKPOINTS]].dropna()
    if len(whole) < numbers.max():
        left_out.append(
            f"The matrix of probes and benchmarks takes the {len(whole)} checkpoints at which "
            f"{', '.join(whole.columns)} all have scores, of {len(scores)}."
        )
    names = rows_of.drop_duplicates("step").set_index("step")["checkpoint"]
    read: dict[str, list[float]] = {}
    for name in sorted({key[2] for key in probes}):
        cells = [probes.get((series["seed"], names[step], name), {}) for step in whole.index]
        values = [cell.get(series["layer"], math.nan) for cell in cells]
        missing = sum(map(math.isnan, values))
        if not missing:
            read[name] = values
        elif missing < len(values):
            left_out.append(
                f"{name} has no probe at {missing} of {len(values)} checkpoints, so the matrix of "
                f"probes and benchmarks is without its probe."
            )
    benchmarks = {str(name): whole[name].tolist() for name in whole.columns}
    found = matrix_rows(whole.index.tolist(), read, benchmarks)
    return [{"task": tasks.get(row["benchmark"], ""), **row} for row in found], left_out


def _dimension_of(task: str) -> str | None:
    """Return the dimension whose benchmark a task is a form of."""
    names = (d.name for d in known_dimensions().values() if d.task and task.startswith(d.task))
    return next(names, None)


def pair_row(
    steps: Sequence[float], probe: Sequence[float], score: Sequence[float], *, tests: int = 1
) -> Row:
    """Return the correlation of a probe with a benchmark, or why there is none.

    Args:
        steps: Steps of the checkpoints, ascending.
        probe: Accuracy at each.
        score: The same.
        tests: Number of correlations for which p will be corrected.
    """
    try:
        found = correlate_over_steps(steps, probe, score, resamples=_permutations(tests))
        return _described(found) | {"note": ""}
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
    benchmark is part of, and the mean of its tetrads with the other dimensions' pairs; a last row
    has the means of both. p of all cells are corrected together, and so are the tetrads' (Holm).

    Args:
        steps: Steps of the checkpoints, ascending.
        probes: Dimension → accuracy at each checkpoint.
        benchmarks: Dimension → score at each checkpoint, higher being better.
    """
    try:
        resamples = _permutations(len(probes) * len(benchmarks))
        found = probe_matrix(steps, probes, benchmarks, resamples=resamples)
    except InputError:
        return []
    rows: list[Row] = []
    for (probe, benchmark), cell in found.cells.items():
        row: Row = {"probe": probe, "benchmark": benchmark, **_described(cell)}
        control = found.controls[probe] if probe == benchmark else _NO_CONTROL
        rows.append(row | _controlled(control))
    _correct(rows)
    add_corrected(rows, "tetrad_p")
    last = {"probe": ALL, "benchmark": ALL, **_described(None), **_controlled(found.overall)}
    blank = dict.fromkeys(("p_corrected", "smallest_p_corrected", "tetrad_p_corrected"), math.nan)
    return [*rows, last | blank]


_NO_CONTROL = Control(math.nan, math.nan, math.nan)


def _controlled(control: Control) -> Row:
    return {"contrast": control.contrast, "tetrad": control.tetrad, "tetrad_p": control.p}


def _permutations(tests: int) -> int:
    """Return enough for a p that is corrected for so many tests."""
    return max(_PERMUTATIONS, enough_resamples(tests))


def add_corrected(rows: Sequence[Row], name: str) -> None:
    """Add p corrected for the number of rows that have one (Holm), as ``NAME_corrected``."""
    tested = [row for row in rows if not math.isnan(row[name])]
    corrected = holm([row[name] for row in tested])
    for row in rows:
        row[f"{name}_corrected"] = math.nan
    for row, value in zip(tested, corrected, strict=True):
        row[f"{name}_corrected"] = value


def _correct(rows: Sequence[Row]) -> None:
    """Add corrected p of correlations, and the smallest that the permutations could give."""
    add_corrected(rows, "p")
    tests = sum(not math.isnan(row["p"]) for row in rows)
    for row in rows:
        row["smallest_p_corrected"] = min(tests * row["smallest_p"], 1.0)


def correlation_rows(points: pd.DataFrame, keys: Sequence[str]) -> list[Row]:
    """Return the correlation of each series of points, its p corrected for their number.

    The more series, the more permutations: with few, no corrected p would be small.

    Args:
        points: With ``step``, ``probe``, ``score`` and the keys.
        keys: Columns that identify a series.
    """
    rows = []
    grouped = points.groupby(list(keys))
    for values, chosen in grouped:
        series = chosen.sort_values("step")
        described = dict(zip(keys, values, strict=True)) | {"checkpoints": len(series)}
        columns = (series[name].tolist() for name in ("step", "probe", "score"))
        rows.append(described | pair_row(*columns, tests=grouped.ngroups))
    _correct(rows)
    return rows


def _described(found: StepCorrelation | None) -> Row:
    names = ("p", "innovations", "pearson", "spearman", "smallest_p", "axis", "degree", "rho")
    values = asdict(found) if found else {}
    return {name: values.get(name, math.nan) for name in names}

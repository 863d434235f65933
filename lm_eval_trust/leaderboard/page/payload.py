"""Boards, sweeps and analyses as plain data for the page's script."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.estimators import ESTIMATORS, columns
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.plain import plain
from lm_eval_trust.leaderboard.board import Board, Column, Pair, Row
from lm_eval_trust.leaderboard.layout import leaves
from lm_eval_trust.leaderboard.page.samples import SampleSets
from lm_eval_trust.leaderboard.page.story import story_of
from lm_eval_trust.leaderboard.ranking import general_columns, shared_columns, trust_columns

Plain = dict[str, Any]


def board_payload(board: Board, sets: SampleSets) -> Plain:
    """Return a board; its samples go into ``sets``."""
    return {
        "columns": [asdict(column) | {"key": column.key} for column in board.columns],
        "rows": [_row(row, board, sets) for row in board.rows],
        "pairs": [_pair(pair) for pair in board.pairs],
        "reference": board.reference,
        "winRates": plain(board.win_rates),
        "front": list(board.front),
        "categories": plain(board.categories),
        "tradeoffs": plain(board.tradeoffs),
        "primary": list(board.primary),
        "standings": plain(board.standings),
        "keptApart": list(board.kept_apart),
        "notes": list(board.notes),
        "confidence": board.confidence,
        "z": statistics.NormalDist().inv_cdf((1 + board.confidence) / 2),
        "story": plain(story_of(board)),
    }


def _row(row: Row, board: Board, sets: SampleSets) -> Plain:
    samples: dict[str, dict[str, list[str]]] = {}
    for run in row.runs:
        for task, of_filter in sets.add(run).items():
            for name, of_set in of_filter.items():
                samples.setdefault(task, {}).setdefault(name, []).append(of_set)
    tasks = {
        column.task: dict.fromkeys(t for run in row.runs for t in leaves(run, column.task))
        for column in board.columns
    }
    return {
        "name": row.name,
        "reported": row.reported,
        "scores": plain(row.scores),
        "provenance": plain(row.provenance),
        "samples": samples,
        "tasks": {name: [t for t in found if t in samples] for name, found in tasks.items()},
        "trust": _place(row, trust_columns(board.columns), board.rows),
        "ability": _place(row, general_columns(board.columns), board.rows),
    }


def _place(row: Row, columns: Iterable[Column], rows: Sequence[Row]) -> Plain | None:
    """Return a measured row's place on an axis of the Pareto front, with its standard error.

    See :func:`lm_eval_trust.leaderboard.ranking.pareto_front`. Columns have different items, so the
    variances add up.
    """
    shared = shared_columns(columns, rows)
    scores = [row.scores[column.key] for column in shared if column.key in row.scores]
    if row.reported or not scores or len(scores) < len(shared):
        return None
    values = [
        s.value if c.higher_is_better else 1 - s.value for c, s in zip(shared, scores, strict=True)
    ]
    errors = [score.stderr for score in scores if score.stderr is not None]
    known = len(errors) == len(scores)
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(errors) if known else None
    return {"value": statistics.fmean(values), "stderr": stderr}


def _pair(pair: Pair) -> Plain:
    of = pair.comparison
    return {
        "first": pair.first,
        "second": pair.second,
        "column": pair.column,
        "difference": plain(of.difference),
        "p": plain(of.p),
        "adjusted": plain(pair.adjusted_p),
        "together": plain(pair.adjusted),
        "family": pair.family,
        "counted": pair.counted,
        "test": of.test,
        "items": of.items,
        "corrected": plain(pair.corrected),
        "effects": [plain(effects) for effects in pair.effects],
    }


#: Values of a curve's points besides α.
_VALUES = ("value", "low", "high", "perplexity")
#: Columns that every sweep's table has, and those needed where there is no ``metrics.csv``.
_SHARED = {"vector", "alpha", "metric", "perplexity"}
_ALONE = {"value", "change", "low", "high"}
#: Columns that distinguish curves.
_FAMILY = ("vector", "layer", "positions", "action", "scale")
#: Half width of a 95 % interval, in standard errors.
_Z = 1.959964


def sweep_payload(path: Path) -> dict[str, Any]:
    """Return a sweep's curves: one for each metric, vector, layer, positions, action and scale.

    Args:
        path: A folder of ``lm-eval-trust sweep`` or of the demo, or its ``sweep.csv``.

    Raises:
        InputError: The table is missing, lacks columns, or is empty.
    """
    file = path / "sweep.csv" if path.is_dir() else path
    metrics = file.with_name("metrics.csv")
    needed = _SHARED if metrics.exists() else _SHARED | _ALONE
    table = read_csv(file, needed)
    rows = _with_metrics(table, metrics) if metrics.exists() else _single(table)
    if rows.empty:
        raise InputError(f"{file} holds no configuration; there is no curve to draw.")
    return {"name": file.parent.name or file.stem, "curves": list(_curves(rows))}


def read_csv(file: Path, needed: set[str]) -> pd.DataFrame:
    """Read a table that must have these columns.

    Raises:
        InputError: It cannot be read, or a column is missing.
    """
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the table {file}: {error}") from error
    missing = sorted(needed - set(table.columns))
    if missing:
        raise InputError(
            f"{file} has no column {', '.join(missing)}; give a folder that "
            f"`lm-eval-trust sweep`, `analyze`, `study` or `demo` wrote."
        )
    return table


def _single(table: pd.DataFrame) -> pd.DataFrame:
    """Return the demo's table (one metric a vector), the change's interval moved to the value."""
    shift = table["value"] - table["change"]
    return table.assign(low=table["low"] + shift, high=table["high"] + shift)


def _with_metrics(table: pd.DataFrame, metrics: Path) -> pd.DataFrame:
    """Return every metric of every configuration, with the configuration's perplexity."""
    keys = [*(name for name in _FAMILY if name in table), "alpha"]
    values = read_csv(metrics, {*keys, "task", "metric", "value", "stderr"})
    joined = values.merge(table[[*keys, "perplexity"]], on=keys, how="left")
    several = joined["task"] + ": " + joined["metric"]
    low, high = (joined["value"] + side * _Z * joined["stderr"] for side in (-1, 1))
    return joined.assign(metric=several, low=low, high=high)


def _curves(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    keys = ["metric", *(name for name in _FAMILY if name in rows)]
    for key, of_curve in rows.groupby(keys, sort=False, dropna=False):
        named = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        metric = named.pop("metric")
        ordered = of_curve.sort_values("alpha")
        yield {
            "metric": str(metric),
            "name": _title(named),
            "alpha": ordered["alpha"].tolist(),
            **{name: plain(ordered[name].tolist()) for name in _VALUES},
        }


def _title(named: dict[str, Any]) -> str:
    words = [str(named["vector"])]
    if "layer" in named:
        words.append(f"layer {named['layer']}")
    words += [str(named[name]) for name in ("positions", "action", "scale") if name in named]
    return ", ".join(words)


#: Measurements that are drawn before and after those of dependence, and their names.
_PROBES = {
    "probe_accuracy": "probe accuracy",
    "probe_auroc": "probe AUROC",
    "probe_over_words": "probe accuracy above that of n-grams",
    "probe_matched": "probe accuracy, capitals matched",
    "probe_selectivity": "probe selectivity",
}
_ALIGNMENT = {"cka_final": "CKA with the last checkpoint"}
_DRAWN = ("checkpoint", "step", "dimension", "layer", "estimator", "value", "low", "high")
#: Drawn if they are there; tables of earlier versions lack them.
_TESTED = ("p_corrected", "p_smallest", "p_alone")


def analysis_payload(path: Path) -> dict[str, Any]:
    """Return a folder's measurements, one list for each column.

    Args:
        path: A folder with ``[analysis/]measurements.csv``, or that file.

    Raises:
        InputError: The table is missing or holds nothing that can be drawn.
    """
    file = _measurements(path)
    table = read_csv(file, {*_DRAWN, "settings"})
    titles = _titles(set(table["estimator"]))
    shown = table[table["estimator"].isin(list(titles))]
    # Of several kernel widths, the first is the one that the figures show.
    shown = shown.drop_duplicates(["checkpoint", "dimension", "layer", "estimator"])
    if shown.empty:
        raise InputError(f"{file} holds none of the measurements that the page draws.")
    ordered = shown.sort_values(["dimension", "estimator", "layer", "step"])
    return {
        "name": _name(file),
        "estimators": titles,
        **{name: plain(ordered[name].tolist()) for name in (*_DRAWN, *_TESTED) if name in ordered},
    }


def _titles(measured: set[str]) -> dict[str, str]:
    """Return the measurements that are drawn → what they are called."""
    estimators = (e for e in ESTIMATORS if f"{e}_tx" in measured or f"{e}_ty" in measured)
    dependence = (pair for e in estimators for pair in columns(e).items())
    titles = {**_PROBES, **dict(dependence), **_ALIGNMENT}
    return {name: title for name, title in titles.items() if name in measured}


def _measurements(path: Path) -> Path:
    if path.is_file():
        return path
    here, below = path / "measurements.csv", path / "analysis" / "measurements.csv"
    return below if below.exists() and not here.exists() else here


def _name(file: Path) -> str:
    folder = file.resolve().parent
    return folder.parent.name if folder.name == "analysis" else folder.name

"""Curves over α, read from what sweeps have written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.core.errors import InputError

#: What a point of a curve holds beside α.
_VALUES = ("value", "low", "high", "perplexity")
#: Columns that the table of any sweep has, and those that one without ``metrics.csv`` needs too.
_SHARED = {"vector", "alpha", "metric", "perplexity"}
_ALONE = {"value", "change", "low", "high"}
#: What tells one curve's configurations from another's.
_FAMILY = ("vector", "layer", "positions", "action", "scale")
#: Of an interval of 95 % around a mean, in standard errors.
_Z = 1.959964


def sweep_payload(path: Path) -> dict[str, Any]:
    """Return a sweep's curves: for each metric and each steered place, points by α.

    Args:
        path: A folder of ``lm-eval-trust sweep`` or of the demo, or its ``sweep.csv``.

    Raises:
        InputError: There is no such table, or it lacks columns or lines.
    """
    file = path / "sweep.csv" if path.is_dir() else path
    metrics = file.with_name("metrics.csv")
    needed = _SHARED if metrics.exists() else _SHARED | _ALONE
    table = read_csv(file, needed)
    rows = _with_metrics(table, metrics) if metrics.exists() else _single(table)
    if rows.empty:
        raise InputError(f"{file} holds no configuration, so that there is no curve to draw.")
    return {"name": file.parent.name or file.stem, "curves": list(_curves(rows))}


def read_csv(file: Path, needed: set[str]) -> pd.DataFrame:
    """Read a table that must have some columns.

    Raises:
        InputError: It cannot be read, or lacks one.
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
    """Return the demo's table: one metric a vector, with the change's interval on its value."""
    shift = table["value"] - table["change"]
    return table.assign(low=table["low"] + shift, high=table["high"] + shift)


def _with_metrics(table: pd.DataFrame, metrics: Path) -> pd.DataFrame:
    """Return every metric of every configuration beside its perplexity."""
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
            **{name: numbers(ordered[name].tolist()) for name in _VALUES},
        }


def _title(named: dict[str, Any]) -> str:
    words = [str(named["vector"])]
    if "layer" in named:
        words.append(f"layer {named['layer']}")
    words += [str(named[name]) for name in ("positions", "action", "scale") if name in named]
    return ", ".join(words)


def numbers(values: Sequence[Any]) -> list[Any]:
    """Return values with ``None`` in place of numbers that are not finite."""
    return [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]

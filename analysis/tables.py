"""Tidy tables of measurements (one row each) in Parquet and CSV, with checked merging."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path


@dataclass(frozen=True)
class Measurement:
    """One row.

    Attributes:
        checkpoint: Name of the checkpoint.
        step: Its training step; ``None`` if it has none.
        tokens: Tokens it was trained on; ``None`` if unknown.
        dimension: Dimension of the statements.
        layer: 0-based decoder block; −1 where none is read, as for a baseline of words.
        estimator: What was measured, e.g. ``probe_accuracy`` or ``nhsic_tx``.
        value: The measurement.
        low: Lower end of its 95 % interval, or of its null band; NaN without one.
        high: Upper end.
        n: Number of samples.
        settings: What else it depends on, as JSON.
        p: p of the permutation test; NaN without one.
        p_smallest: The smallest p that its design and number of permutations can give.
        p_layers: p corrected for the layers of its checkpoint and dimension.
        p_corrected: That corrected for the table's checkpoints and dimensions too; NaN if
            ``p_smallest`` is above .05, as such a test can find nothing.
        p_alone: The smallest ``p_corrected`` that it can get if nothing else is found.
        stage: Stage of training of the checkpoint; empty if there is one only.
    """

    checkpoint: str
    step: int | None
    tokens: int | None
    dimension: str
    layer: int
    estimator: str
    value: float
    low: float
    high: float
    n: int
    settings: str = "{}"
    p: float = math.nan
    p_smallest: float = math.nan
    p_layers: float = math.nan
    p_corrected: float = math.nan
    p_alone: float = math.nan
    stage: str = ""


_DTYPES = {"str": "string", "int": "int64", "int | None": "Int64", "float": "float64"}
#: Name of each column → its dtype.
COLUMNS = {field.name: _DTYPES[str(field.type)] for field in fields(Measurement)}
#: Columns that identify a measurement.
KEY = ["checkpoint", "dimension", "layer", "estimator", "settings"]


def as_table(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Return measurements as a table of :data:`COLUMNS`."""
    rows = [asdict(measurement) for measurement in measurements]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def merge(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of both, each measurement once.

    Raises:
        InputError: Wrong columns, or two values for one measurement.
    """
    for table in (first, second):
        if list(table.columns) != list(COLUMNS):
            raise InputError(f"Columns are {list(table.columns)}; expected {list(COLUMNS)}.")
    joined = pd.concat([first.astype(COLUMNS), second.astype(COLUMNS)], ignore_index=True)
    joined = joined.drop_duplicates(ignore_index=True)
    twice = joined.duplicated(KEY, keep=False)
    if twice.any():
        row = joined[twice].iloc[0]
        raise InputError(
            f"Two values for one measurement: {', '.join(f'{name} {row[name]}' for name in KEY)}. "
            f"They come from different data or code; keep them in different tables."
        )
    return joined.sort_values(["dimension", "estimator", "layer", "step"], ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write ``path``.parquet and ``path``.csv, each atomically."""
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        table.to_parquet(temporary, index=False)
    with atomic_path(path.with_suffix(".csv")) as temporary:
        table.to_csv(temporary, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Read what :func:`write_table` wrote, from the Parquet file.

    Raises:
        InputError: The file is missing, damaged, or another kind of table.
    """
    file = path.with_suffix(".parquet")
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the table {file}: {error}") from error
    return merge(table, table.iloc[:0])


def append(path: Path, measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Add measurements to a table on disk, which need not exist yet; return all rows.

    Raises:
        InputError: As :func:`merge` and :func:`read_table`.
    """
    new = as_table(measurements)
    old = read_table(path) if path.with_suffix(".parquet").exists() else new.iloc[:0]
    table = merge(old, new)
    write_table(table, path)
    return table

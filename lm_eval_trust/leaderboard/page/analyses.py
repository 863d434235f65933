"""Measurements of checkpoints, read from what ``analyze``, studies and the demo have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval_trust.analysis.tables import COLUMNS
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.leaderboard.page.sweeps import numbers, read_csv

#: What is drawn, and what it is called.
ESTIMATORS = {
    "probe_accuracy": "probe accuracy",
    "probe_auroc": "probe AUROC",
    "probe_selectivity": "probe selectivity",
    "nhsic_tx": "I(T,X), nHSIC",
    "nhsic_ty": "I(T,Y), nHSIC",
    "hsic_tx": "I(T,X), HSIC",
    "hsic_ty": "I(T,Y), HSIC",
    "cka_final": "CKA with the last checkpoint",
}


def analysis_payload(path: Path) -> dict[str, Any]:
    """Return the measurements of a folder, a list a column.

    Args:
        path: A folder that holds ``measurements.csv``, itself or in ``analysis/``, or that file.

    Raises:
        InputError: There is no such table, or nothing in it that can be drawn.
    """
    file = _measurements(path)
    table = read_csv(file, set(COLUMNS))
    shown = table[table["estimator"].isin(list(ESTIMATORS))]
    # Dependence measured with several kernels: the first is the one that the figures show.
    shown = shown.drop_duplicates(["checkpoint", "dimension", "layer", "estimator"])
    if shown.empty:
        raise InputError(f"{file} holds none of the measurements that the page draws.")
    ordered = shown.sort_values(["dimension", "estimator", "layer", "step"])
    columns = ("checkpoint", "step", "dimension", "layer", "estimator", "value", "low", "high")
    return {
        "name": _name(file),
        "estimators": {k: v for k, v in ESTIMATORS.items() if k in set(shown["estimator"])},
        **{name: numbers(ordered[name].tolist()) for name in columns},
    }


def _measurements(path: Path) -> Path:
    if path.is_file():
        return path
    here, below = path / "measurements.csv", path / "analysis" / "measurements.csv"
    return below if below.exists() and not here.exists() else here


def _name(file: Path) -> str:
    folder = file.resolve().parent
    return folder.parent.name if folder.name == "analysis" else folder.name

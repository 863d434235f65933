"""Analyse a folder of activation sets: probes, mutual information, phases, tables, figures.

Every set is a cell that is written once; an analysis that was interrupted goes on where it
stopped, and a set that changed is analysed anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from lm_eval_trust.analysis.estimators import columns
from lm_eval_trust.analysis.figures import (
    curves_by_layer,
    information_curves,
    information_plane,
    layer_heatmap,
    save_figure,
)
from lm_eval_trust.analysis.hsic import linear_cka
from lm_eval_trust.analysis.information import (
    InformationPlane,
    InformationSettings,
    LayerInformation,
)
from lm_eval_trust.analysis.phases import find_phases
from lm_eval_trust.analysis.probing import ProbeSettings, probe
from lm_eval_trust.analysis.tables import Measurement, as_table, write_table
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.study.activation_sets import ActivationSet, find_sets

#: What can be measured: ``cka`` is the alignment to the final checkpoint.
MEASURES = ("probes", "information", "cka")
_LEAST_CHECKPOINTS = 6
#: Samples of the alignment to the final checkpoint, which is for orientation.
_CKA_SAMPLES = 500


@dataclass(frozen=True)
class AnalysisSettings:
    """What is computed.

    Attributes:
        probes: How probes are fitted and judged.
        information: Which dependence is measured; figures and phases show this one.
        further_sigmas: Other kernel widths, for the table.
        samples: Statements of each set that dependence is measured on, at most: drawn once a
            dimension, so that n is the same at all checkpoints.
        layers: Decoder blocks, or ``None`` for all that the sets hold.
        measures: Which of :data:`MEASURES`.
    """

    probes: ProbeSettings = field(default_factory=ProbeSettings)
    information: InformationSettings = field(default_factory=InformationSettings)
    further_sigmas: tuple[float, ...] = ()
    samples: int = 2000
    layers: tuple[int, ...] | None = None
    measures: tuple[str, ...] = MEASURES


@dataclass(frozen=True)
class Analysis:
    """What came of it.

    Attributes:
        table: All measurements.
        phases: A row a dimension and layer; empty with too few checkpoints.
    """

    table: pd.DataFrame
    phases: pd.DataFrame


def analyse(folder: Path, out: Path, settings: AnalysisSettings | None = None) -> Analysis:
    """Analyse a folder and write ``measurements``, ``phases`` and ``figures/`` to another.

    Raises:
        MissingDataError: There is nothing to analyse.
        InputError: A damaged set, sets of a dimension with unequal n, or layers that are missing.
    """
    settings = settings or AnalysisSettings()
    sets = find_sets(folder)
    _require_equal_n(sets)
    last = {found.info.dimension: found for found in sets}
    measurements: list[Measurement] = []
    for found in tqdm(sets, "Analysing", unit="set"):
        measurements += _cell(found, last[found.info.dimension], out / "cells", settings)
    return write_analysis(measurements, out, settings)


def write_analysis(
    measurements: Sequence[Measurement], out: Path, settings: AnalysisSettings
) -> Analysis:
    """Write tables and figures of what was measured; the same bytes for the same measurements.

    Args:
        measurements: Of :func:`measure_set`, ordered by step.
        out: Folder.
        settings: With which they were measured.
    """
    table = as_table(measurements)
    estimator, shown = settings.information.estimator, _record(settings.information)
    names = [f"{name}{ending}" for name in columns(estimator) for ending in ("", "_p")]
    others = table["estimator"].isin(names) & (table["settings"] != shown)
    drawn = table[~others]
    phases = pd.DataFrame(list(_phases(drawn, estimator)))
    write_table(table, out / "measurements")
    if not phases.empty:
        with atomic_path(out / "phases.csv") as temporary:
            phases.to_csv(temporary, index=False)
    _draw(drawn, out / "figures", estimator, settings.measures)
    return Analysis(table, phases)


def _require_equal_n(sets: Sequence[ActivationSet]) -> None:
    sizes: dict[str, ActivationSet] = {}
    for found in sets:
        first = sizes.setdefault(found.info.dimension, found)
        if len(first) != len(found):
            raise InputError(
                f"{first.path} holds {len(first)} statements and {found.path} {len(found)}: "
                f"measures of dependence compare at equal n only. Make the sets from the same data."
            )


def _cell(
    found: ActivationSet, last: ActivationSet, folder: Path, settings: AnalysisSettings
) -> list[Measurement]:
    """Return a set's measurements, computed now unless they were before."""
    file = folder / found.info.checkpoint / f"{found.info.dimension}.json"
    stamps = [(s.path.stat().st_size, s.path.stat().st_mtime_ns) for s in (found, last)]
    key = fingerprint({"settings": _plain(settings), "files": stamps})
    kept = _kept(file, key)
    if kept is not None:
        return kept
    rows = measure_set(found, last, settings)
    with atomic_path(file) as temporary:
        record = {"key": key, "rows": [asdict(row) for row in rows]}
        temporary.write_text(json.dumps(record), encoding="utf-8")
    return rows


def _kept(file: Path, key: str) -> list[Measurement] | None:
    """Return a finished cell's measurements; ``None`` if it is not there, not whole, or old."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return [Measurement(**row) for row in record["rows"]] if record["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure_set(
    found: ActivationSet, last: ActivationSet, settings: AnalysisSettings
) -> list[Measurement]:
    """Return a set's measurements.

    Args:
        found: The set.
        last: The same dimension's set of the final checkpoint.
        settings: What is computed.

    Raises:
        InputError: A set lacks a layer.
    """
    layers = found.layers if settings.layers is None else settings.layers
    rows = np.random.default_rng(settings.information.seed).permutation(len(found))
    rows = np.sort(rows[: settings.samples])
    planes = _planes(found, rows, settings) if "information" in settings.measures else {}
    measured: list[Measurement] = []
    for layer in layers:
        values = found.layer(layer)
        if "probes" in settings.measures:
            measured += _probe_rows(found, layer, values, settings.probes)
        for record, plane in planes.items():
            result = plane.measure(values[rows])
            estimator = settings.information.estimator
            measured += _information_rows(found, layer, result, len(rows), estimator, record)
        if "cka" in settings.measures:
            few = rows[:_CKA_SAMPLES]
            cka = linear_cka(values[few], last.layer(layer)[few])
            measured.append(_row(found, layer, "cka_final", cka, n=len(few)))
    return measured


def _planes(
    found: ActivationSet, rows: npt.NDArray[np.int64], settings: AnalysisSettings
) -> dict[str, InformationPlane]:
    """Return a plane for each kernel width, by its record."""
    inputs, chosen = found.layer(min(found.layers)), settings.information
    return {
        _record(measured): InformationPlane(inputs[rows], found.labels[rows], measured)
        for measured in (chosen, *(replace(chosen, sigma=s) for s in settings.further_sigmas))
    }


def _probe_rows(
    found: ActivationSet, layer: int, values: Any, settings: ProbeSettings
) -> Iterator[Measurement]:
    groups = [str(group) for group in found.groups]
    parts = found.parts
    result = probe(
        values,
        found.labels,
        train=parts.train,
        test=parts.test,
        validation=parts.validation,
        groups=groups,
        settings=settings,
    )
    record = json.dumps({"C": result.regularisation, "controls": settings.controls})
    n = result.n_test
    yield _row(found, layer, "probe_accuracy", result.accuracy, result.low, result.high, n, record)
    for name, value in (
        ("probe_auroc", result.auroc),
        ("probe_mass_mean", result.mass_mean),
        ("probe_majority", result.majority),
        ("probe_control", result.control),
        ("probe_selectivity", result.selectivity),
    ):
        if value is not None:
            yield _row(found, layer, name, value, n=n, settings=record)


def _record(settings: InformationSettings) -> str:
    return json.dumps({"sigma": settings.sigma, "epsilon": settings.epsilon})


def _information_rows(
    found: ActivationSet,
    layer: int,
    result: LayerInformation,
    n: int,
    estimator: str,
    record: str,
) -> Iterator[Measurement]:
    for side, null in (("tx", result.input), ("ty", result.label)):
        name = f"{estimator}_{side}"
        yield _row(found, layer, name, null.value, null.mean, null.quantile95, n, record)
        if null.permutations:
            yield _row(found, layer, f"{name}_p", null.p, n=n, settings=record)


def _row(
    found: ActivationSet,
    layer: int,
    estimator: str,
    value: float,
    low: float = float("nan"),
    high: float = float("nan"),
    n: int = 0,
    settings: str = "{}",
) -> Measurement:
    info = found.info
    return Measurement(
        info.checkpoint,
        info.step,
        info.tokens,
        info.dimension,
        layer,
        estimator,
        float(value),
        float(low),
        float(high),
        n,
        settings,
    )


def _phases(table: pd.DataFrame, estimator: str) -> Iterator[Mapping[str, Any]]:
    sides = [table[table["estimator"] == f"{estimator}_{side}"] for side in ("tx", "ty")]
    keys = ["dimension", "layer", "step"]
    joined = sides[0].merge(sides[1], on=keys, suffixes=("_x", "_y")).sort_values("step")
    for (dimension, layer), rows in joined.groupby(["dimension", "layer"]):
        if len(rows) < _LEAST_CHECKPOINTS:
            continue
        found = find_phases(rows["step"], rows["value_x"], rows["value_y"])
        yield {
            "dimension": dimension,
            "layer": layer,
            "verdict": found.verdict,
            "turn": found.turn,
            "turn_low": found.turn_low,
            "turn_high": found.turn_high,
            "tx_before": found.input_before.value,
            "tx_after": found.input_after.value,
            "ty_before": found.label_before.value,
            "ty_after": found.label_after.value,
        }


def _draw(table: pd.DataFrame, folder: Path, estimator: str, measures: Sequence[str]) -> None:
    figures = {}
    if "probes" in measures:
        figures = {
            "probing": curves_by_layer(table, "probe_accuracy", label="probe accuracy"),
            "probing-heatmap": layer_heatmap(table, "probe_accuracy", label="probe accuracy"),
        }
    if "information" in measures:
        figures |= {
            f"{estimator}": information_curves(table, estimator),
            f"{estimator}-plane": information_plane(table, estimator),
        }
    for name, figure in figures.items():
        save_figure(figure, folder, name)


def _plain(settings: AnalysisSettings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain

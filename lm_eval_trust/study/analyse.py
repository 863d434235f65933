"""Analyse a folder of activation sets: probes, mutual information, phases, tables, figures.

Every set is a cell that is written once; an analysis that was interrupted continues where it
stopped, and a set that changed is analysed again.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.estimators import columns
from lm_eval_trust.analysis.figures import (
    curves_by_layer,
    information_curves,
    information_plane,
    layer_heatmap,
    remove_figure,
    save_figure,
)
from lm_eval_trust.analysis.multiplicity import corrected_by_families
from lm_eval_trust.analysis.phases import LEVEL, correct_phases, enough_resamples, find_phases
from lm_eval_trust.analysis.probe_summary import probe_summary
from lm_eval_trust.analysis.statistics import few_groups
from lm_eval_trust.analysis.tables import Measurement, as_table, write_table
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import (
    atomic_path,
    claim_folder,
    folder_lock,
    read_kept,
    write_kept,
)
from lm_eval_trust.models.untrained import UNTRAINED
from lm_eval_trust.study.activation_sets import ActivationSet, differences, find_sets
from lm_eval_trust.study.measure import (
    INPUT_LAYER,
    VERSION,
    AnalysisSettings,
    information_record,
    measure_set,
    warn_of_what_is_missing,
    without_probes,
)

_LOG = logging.getLogger(__name__)
_LEAST_CHECKPOINTS = 6


@dataclass(frozen=True)
class Analysis:
    """What came of it.

    Attributes:
        table: All measurements.
        phases: A row per dimension and layer, its verdict corrected for their number; empty with
            too few checkpoints.
        probes: A row per dimension and checkpoint: the probe at the layer chosen on the validation
            part, with its controls; empty without probes.
    """

    table: pd.DataFrame
    phases: pd.DataFrame
    probes: pd.DataFrame


def analyse(folder: Path, out: Path, settings: AnalysisSettings | None = None) -> Analysis:
    """Analyse a folder; write ``measurements``, ``probes``, ``phases`` and ``figures/`` to another.

    Raises:
        MissingDataError: There is nothing to analyse.
        InputError: A damaged set, sets of one dimension with different statements, or layers that
            are missing; another process analyses into the folder, or it holds other files of these
            names.
    """
    settings = settings or AnalysisSettings()
    sets = find_sets(folder)
    _require_same_statements(sets)
    trained = [found for found in sets if found.info.checkpoint != UNTRAINED]
    if not trained:
        raise MissingDataError(f"{folder} holds untrained sets only, which are controls of others.")
    if any(not found.texts for found in trained):
        _LOG.warning(
            "Sets of an earlier version hold no statements, so their probes stand without the "
            "baseline of words; `lm-eval-trust activations` makes them anew."
        )
    last = {found.info.dimension: found for found in trained}
    for dimension, found in last.items():
        warn_of_what_is_missing(found, settings)
        probed = "probes" in settings.measures and not without_probes(found, settings.probes)
        if probed and (few := few_groups(len(set(found.groups[found.parts.test])))):
            _LOG.warning("Probes of %s: %s.", dimension, few)
    sets = [found for found in sets if found.info.dimension in last]
    claim_folder(out, "analyze", ("measurements.csv", "measurements.parquet", "probes.csv"))
    with folder_lock(out, f"Another analysis is at work in {out}; choose another folder, or wait."):
        return _analyse(sets, last, out, settings)


def _analyse(
    sets: Sequence[ActivationSet],
    last: Mapping[str, ActivationSet],
    out: Path,
    settings: AnalysisSettings,
) -> Analysis:
    measurements: list[Measurement] = []
    for found in progress_bar(sets, "Analysing", unit="set"):
        measurements += _cell(found, last[found.info.dimension], out / "cells", settings)
    return write_analysis(measurements, out, settings)


def write_analysis(
    measurements: Sequence[Measurement], out: Path, settings: AnalysisSettings
) -> Analysis:
    """Write tables and figures of what was measured; the same bytes for the same measurements.

    Args:
        measurements: Result of :func:`measure_set`, ordered by step.
        out: Folder.
        settings: With which they were measured.
    """
    table, estimator = as_table(measurements), settings.information.estimator
    of_dependence = table["estimator"].isin(columns(estimator))
    table = _corrected(table, table[of_dependence])
    _warn_of_tests_that_find_nothing(table)
    others = of_dependence & (table["settings"] != information_record(settings.information))
    drawn = table[~others & (table["checkpoint"] != UNTRAINED)]
    write_table(table, out / "measurements")
    probes = probe_summary(table)
    _write(probes, out / "probes.csv")
    phases = _phases(_in_order(drawn[of_dependence[drawn.index]]), estimator)
    _write(phases, out / "phases.csv")
    _draw(drawn, probes, phases, out / "figures", estimator)
    return Analysis(table, phases, probes)


def _write(summary: pd.DataFrame, path: Path) -> None:
    """Write a table; of an empty one, an earlier analysis' file must not stay."""
    if summary.empty:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        summary.to_csv(temporary, index=False)


def _corrected(table: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Return a table with p corrected for layers, and then for its checkpoints and dimensions.

    Families whose design gives no p of .05 can find nothing whatever the data are, so they do not
    count.

    Args:
        table: All rows.
        tested: Those with a p.
    """
    table = table.assign(p_corrected=math.nan, p_alone=math.nan)
    able = tested[tested["p_smallest"] <= LEVEL]
    for _, measured in able.groupby(["estimator", "settings"]):
        families = [rows for _, rows in measured.groupby(["checkpoint", "dimension"])]
        corrected = corrected_by_families([list(rows["p_layers"]) for rows in families])
        for rows, values in zip(families, corrected, strict=True):
            table.loc[rows.index, "p_corrected"] = values
            alone = (rows["p_smallest"] * len(families)).clip(upper=1.0)
            table.loc[rows.index, "p_alone"] = alone
    return table


def _warn_of_tests_that_find_nothing(table: pd.DataFrame) -> None:
    unable = table[table["p_smallest"] > LEVEL]
    for (dimension, estimator), rows in unable.groupby(["dimension", "estimator"]):
        _LOG.warning(
            "%s: no p of %s can be below %.2g, so its values are no evidence and are left out of "
            "the corrections. The groups or --permutations allow too few rearrangements.",
            dimension,
            estimator,
            rows["p_smallest"].min(),
        )


def _require_same_statements(sets: Sequence[ActivationSet]) -> None:
    firsts: dict[str, ActivationSet] = {}
    for found in sets:
        first = firsts.setdefault(found.info.dimension, found)
        if len(first) != len(found):
            raise InputError(
                f"{first.path} holds {len(first)} statements and {found.path} {len(found)}: "
                f"measures of dependence compare at equal n only. Make the sets from the same data."
            )
        if other := differences(first, found):
            raise InputError(
                f"{first.path} and {found.path} differ in {', '.join(other)}; only sets of the "
                f"same statements compare. Make them with the same --source, --samples, "
                f"--data-seed, --split and --split-seed, or analyse them in different folders."
            )


def _cell(
    found: ActivationSet, last: ActivationSet, folder: Path, settings: AnalysisSettings
) -> list[Measurement]:
    """Return a set's measurements, computed now unless they were before."""
    file = folder / found.info.checkpoint / f"{found.info.dimension}.json"
    stamps = [(s.path.stat().st_size, s.path.stat().st_mtime_ns) for s in (found, last)]
    key = fingerprint({"version": VERSION, "settings": _plain(settings), "files": stamps})
    kept = read_kept(file)
    if isinstance(kept, dict) and kept.get("key") == key:
        return [Measurement(**row) for row in kept["rows"]]
    rows = measure_set(found, last, settings)
    write_kept(file, {"key": key, "rows": [asdict(row) for row in rows]})
    return rows


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of dimensions whose checkpoints have a step each, by which they are ordered.

    Sets of several models often have none, or all the same, which is said; one set has no order.
    """
    numbers = table.groupby("dimension")[["checkpoint", "step"]].nunique()
    unordered = numbers[numbers["step"] < numbers["checkpoint"]]
    for dimension, number in unordered[unordered["checkpoint"] > 1].iterrows():
        _LOG.warning(
            "%s: %d checkpoints have %d different training %s, so no phases are looked for. If "
            "they belong to one run, store each with `lm-eval-trust activations --step`.",
            dimension,
            number["checkpoint"],
            number["step"],
            "step" if number["step"] == 1 else "steps",
        )
    return table[~table["dimension"].isin(unordered.index)]


def _phases(table: pd.DataFrame, estimator: str) -> pd.DataFrame:
    """Return a row for each dimension and layer, its verdict corrected for their number.

    Block 0 is the input itself, whose I(T, X) has no phases.
    """
    table = table[table["layer"] != INPUT_LAYER]
    sides = [table[table["estimator"] == f"{estimator}_{side}"] for side in ("tx", "ty")]
    keys = ["dimension", "layer", "checkpoint", "step"]
    joined = sides[0].merge(sides[1], on=keys, suffixes=("_x", "_y")).sort_values("step")
    series = {
        place: rows
        for place, rows in joined.groupby(["dimension", "layer"])
        if len(rows) >= _LEAST_CHECKPOINTS
    }
    resamples = enough_resamples(len(series))
    alone = [
        find_phases(rows["step"], rows["value_x"], rows["value_y"], resamples=resamples)
        for rows in series.values()
    ]
    return pd.DataFrame(
        [
            {
                "dimension": dimension,
                "layer": layer,
                "verdict": together.verdict,
                "p": found.p,
                "p_corrected": together.p,
                "p_smallest": 1 / (1 + resamples),
                "p_fitting": found.p_fitting,
                "p_fitting_corrected": together.p_fitting,
                "verdict_alone": found.verdict,
                "rho": found.rho,
                "rho_label": found.rho_label,
                "turn": found.turn,
                "turn_low": found.turn_low,
                "turn_high": found.turn_high,
                "tx_before": found.input_before.value,
                "tx_after": found.input_after.value,
                "ty_before": found.label_before.value,
                "ty_after": found.label_after.value,
            }
            for (dimension, layer), found, together in zip(
                series, alone, correct_phases(alone), strict=True
            )
        ]
    )


def _draw(
    table: pd.DataFrame,
    probes: pd.DataFrame,
    phases: pd.DataFrame,
    folder: Path,
    estimator: str,
) -> None:
    there = set(table["estimator"])
    figures: dict[str, Figure | None] = dict.fromkeys(
        ("probing", "probing-heatmap", estimator, f"{estimator}-plane")
    )
    if "probe_accuracy" in there:
        label = "probe accuracy"
        figures |= {
            "probing": curves_by_layer(table, "probe_accuracy", label=label, controls=probes),
            "probing-heatmap": layer_heatmap(table, "probe_accuracy", label=label),
        }
    if f"{estimator}_ty" in there:
        figures[estimator] = information_curves(table, estimator, phases)
    if there >= set(columns(estimator)):
        figures[f"{estimator}-plane"] = information_plane(table, estimator)
    for name, figure in figures.items():
        if figure is None:
            remove_figure(folder, name)
        else:
            save_figure(figure, folder, name)


def _plain(settings: AnalysisSettings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain

"""Probes and directions of checkpoints, applied to other checkpoints and other statements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import curves_by_layer
from lm_eval_trust.analysis.probing import ProbeSettings, fit_probe
from lm_eval_trust.analysis.transfer import (
    cosines,
    fragility,
    mean_differences,
    transferred,
)
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.activation_sets import ActivationSet
from lm_eval_trust.study.cells import ActivationCell, TransferCell
from lm_eval_trust.study.figures import transfer_heatmap
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.readings import reading_of

TRANSFERS = "transfers.json"
#: Sources whose matrix says more than its numbers.
_LEAST = 2
Row = dict[str, Any]


def transfer_rows(
    source: ActivationSet,
    targets: Sequence[tuple[ActivationSet, str]],
    settings: ProbeSettings,
    layers: Sequence[int] | None,
) -> list[Row]:
    """Return what a set's probes and directions reach on each target, a row per block and target.

    Args:
        source: On whose training part they are fitted.
        targets: Sets of the same statements read by other checkpoints, or reworded, or of other
            statements; each with its wording, which is empty where they are as they are.
        settings: How probes are fitted.
        layers: 0-based decoder blocks; by default all of the source.

    Raises:
        InputError: A target of the same dimension has other statements, or another width.
    """
    for target, wording in targets:
        same = target.info.dimension == source.info.dimension and not wording
        if same and target.texts != source.texts:
            raise InputError(f"{target.path} and {source.path} are sets of other statements.")
    return [
        row
        for layer in (source.layers if layers is None else layers)
        for row in _at_layer(source, targets, settings, layer)
    ]


def _at_layer(
    source: ActivationSet,
    targets: Sequence[tuple[ActivationSet, str]],
    settings: ProbeSettings,
    layer: int,
) -> Iterator[Row]:
    values, parts = source.layer(layer), source.parts
    probe = fit_probe(
        values,
        source.labels,
        train=parts.train,
        validation=parts.validation,
        groups=_names(source),
        settings=settings,
    )
    own = mean_differences(values, probe.labelings, parts.train)
    tested = source.groups[parts.test]
    withstood = fragility(
        probe, values, source.labels, test=parts.test, groups=len(np.unique(tested))
    )
    for place, (target, wording) in enumerate(targets):
        same = target.info.dimension == source.info.dimension
        there = target.layer(layer)
        found = transferred(
            probe,
            there,
            target.labels,
            train=target.parts.train,
            test=target.parts.test,
            groups=_names(target),
            same_statements=same,
        )
        row: Row = {
            "place": place,
            "target": target.info.checkpoint,
            "wording": wording,
            "dimension": source.info.dimension,
            "target_dimension": target.info.dimension,
            "layer": layer,
            **asdict(found),
        }
        if same:
            directions = mean_differences(there, probe.labelings, target.parts.train)
            row["cosine"], row["cosine_control"] = cosines(own, directions)
        if target.path == source.path:
            row |= {"noise_half": withstood.half, "noise_chance": withstood.chance}
        yield row


def _names(found: ActivationSet) -> list[str]:
    return [str(group) for group in found.groups]


COLUMNS = {
    "source": "string",
    "source_stage": "string",
    "source_step": "Int64",
    "target": "string",
    "target_stage": "string",
    "target_step": "Int64",
    "dimension": "string",
    "target_dimension": "string",
    "wording": "string",
    "layer": "int64",
    "accuracy": "float64",
    "low": "float64",
    "high": "float64",
    "auroc": "float64",
    "recentred": "float64",
    "control": "float64",
    "cosine": "float64",
    "cosine_control": "float64",
    "n": "int64",
    "noise_half": "float64",
    "noise_chance": "float64",
    "same_reading": "boolean",
    "seed": "int64",
}


def transfer_table(cells: Sequence[TransferCell], folder: StudyFolder) -> pd.DataFrame:
    """Return a row for each finished source, target, dimension and block, in a stable order."""
    rows = [row for cell in cells if folder.record(cell) for row in _placed(cell, folder)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = ["seed", "dimension", "target_dimension", "wording", "layer"]
    order += ["source_step", "target_step"]
    return table.sort_values(order, ignore_index=True, kind="stable")


def _placed(cell: TransferCell, folder: StudyFolder) -> Iterator[Row]:
    file = folder.verify(cell) / TRANSFERS
    for row in json.loads(file.read_text(encoding="utf-8")):
        target = cell.targets[row.pop("place")]
        same = row["dimension"] == row["target_dimension"] and not row["wording"]
        yield {
            **row,
            "source": cell.model.name,
            "source_stage": cell.model.stage,
            "source_step": cell.model.step,
            "target_stage": target.model.stage,
            "target_step": target.model.step,
            "same_reading": _alike(cell.activations, target, folder) if same else None,
            "seed": cell.activations.statements.seed,
        }


def _alike(first: ActivationCell, second: ActivationCell, folder: StudyFolder) -> bool | None:
    """Tell whether two checkpoints read the statements as the same tokens; ``None`` if unknown."""
    ids = [reading_of(cell, folder).get("ids") for cell in (first, second)]
    return None if None in ids else ids[0] == ids[1]


def transfer_figures(table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield matrices of checkpoints for each dimension and block, and the probes' fragility."""
    within = table["dimension"] == table["target_dimension"]
    between = table[within & (table["wording"] == "")]
    means = ["accuracy", "cosine"]
    for (dimension, layer), rows in between.groupby(["dimension", "layer"]):
        names = list(dict.fromkeys(rows.sort_values("source_step")["source"]))
        if len(names) < _LEAST:
            continue
        of_source = rows.drop_duplicates("source").set_index("source")["source_stage"]
        stages = of_source[names].fillna("").tolist()
        for column, label in zip(means, ("probe accuracy", "cosine of vectors"), strict=True):
            matrix = rows.pivot_table(index="source", columns="target", values=column)
            yield (
                f"transfer-{column}-{dimension}-L{layer}",
                transfer_heatmap(
                    matrix.reindex(index=names, columns=names),
                    label=label,
                    stages=stages if len(set(stages)) > 1 else (),
                    axes_names=("applied to", "fitted on"),
                ),
            )
    own = between[between["source"] == between["target"]]
    if own["noise_chance"].notna().any() and own["source"].nunique() >= _LEAST:
        columns = {"source": "checkpoint", "source_step": "step", "source_stage": "stage"}
        curves = own.rename(columns=columns)
        curves = curves.assign(
            estimator="noise_chance", value=curves["noise_chance"], low=np.nan, high=np.nan
        )
        yield "fragility", curves_by_layer(curves, "noise_chance", label="noise to chance")

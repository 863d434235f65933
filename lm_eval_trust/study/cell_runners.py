"""How each kind of cell is computed into its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.mini.world import world_seed
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.decoder_blocks import number_of_blocks
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.steering.build import layer_vector, provenance_of
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import SteeringVector, load_vector
from lm_eval_trust.study.activation_sets import (
    ActivationSet,
    SetInfo,
    read_set,
    save_set,
    set_path,
)
from lm_eval_trust.study.analyse import measure_set
from lm_eval_trust.study.cells import (
    ActivationCell,
    AnalysisCell,
    Cell,
    EvaluationCell,
    StatementChoice,
    SteeringPoint,
    VectorCell,
)
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.harness import evaluate
from lm_eval_trust.study.model_session import LoadedModel

MEASUREMENTS = "measurements.json"
VECTOR = "vector.safetensors"
_METHOD, _PART = "mass_mean", "train"


def compute(
    cell: Cell, out: Path, folder: StudyFolder, loaded: LoadedModel | None
) -> Mapping[str, Any]:
    """Compute a cell into a folder; return what its record says of the result.

    Args:
        cell: Which cell.
        out: Empty folder of its files.
        folder: The study's, with the cells that this one needs.
        loaded: The model, where the cell needs one.

    Raises:
        InputError: As the cell's own work raises.
        ExternalError: Likewise, or a cell that this one needs is missing.
    """
    if isinstance(cell, VectorCell):
        return _vector(cell, out, folder)
    if isinstance(cell, AnalysisCell):
        return _analysis(cell, out, folder)
    assert loaded is not None
    if isinstance(cell, ActivationCell):
        return _activations(cell, out, loaded)
    assert isinstance(cell, EvaluationCell)
    return _evaluation(cell, out, folder, loaded)


def activation_set(cell: ActivationCell, folder: StudyFolder) -> ActivationSet:
    """Return the activations of a finished cell.

    Raises:
        ExternalError: The cell is not finished.
        InputError: Its file is damaged.
    """
    return read_set(set_path(_finished(cell, folder), cell.model.name, cell.dimension))


def _finished(cell: Cell, folder: StudyFolder) -> Path:
    if folder.record(cell) is None:
        raise ExternalError(f"It needs {cell.name}, which is not there; see why that failed.")
    return folder.cell(cell)


def _statements(choice: StatementChoice, dimension: str) -> Statements:
    return _loaded(choice, dimension, world_seed())


@lru_cache(maxsize=8)
def _loaded(choice: StatementChoice, dimension: str, world: int) -> Statements:
    """Return the statements, which for the embedded world are those of this seed."""
    return choice.load(dimension)


def _activations(cell: ActivationCell, out: Path, loaded: LoadedModel) -> Mapping[str, Any]:
    statements = _statements(cell.statements, cell.dimension)
    layers = range(number_of_blocks(loaded.model)) if cell.layers is None else cell.layers
    activations = extract_activations(
        loaded.model, loaded.tokenizer, statements.texts, layers=layers, progress=False
    )
    info = SetInfo(
        checkpoint=cell.model.name,
        step=cell.model.step or 0,
        tokens=cell.model.tokens or 0,
        dimension=cell.dimension,
        data_source=statements.data_source,
        model=loaded.source.identity.text,
    )
    parts = statements.partition(split=cell.statements.split, seed=cell.statements.split_seed)
    save_set(
        out,
        info,
        activations,
        layers=layers,
        labels=statements.labels,
        groups=statements.groups,
        parts=parts,
    )
    return {
        "statements": len(statements),
        "data": statements.settings,
        "identity": asdict(loaded.source.identity),
        "dtype": loaded.dtype,
    }


def _vector(cell: VectorCell, out: Path, folder: StudyFolder) -> Mapping[str, Any]:
    source = cell.activations
    found = activation_set(source, folder)
    record = folder.record(source)
    assert record is not None
    choice = source.statements
    statements = _statements(choice, source.dimension)
    provenance = provenance_of(
        statements,
        identity=ModelIdentity(**record["result"]["identity"]),
        dtype=record["result"]["dtype"],
        method=_METHOD,
        split=choice.split,
        split_seed=choice.split_seed,
        part=_PART,
    )
    rows = found.parts.train
    used = statements.select(rows)
    layers = {i: layer_vector(_METHOD, found.layer(i)[rows], used) for i in found.layers}
    vector = SteeringVector(layers, provenance, name=f"{source.dimension} vector")
    vector.save(out / VECTOR)
    return {"provenance": provenance.summary(), "layers": list(found.layers)}


def _analysis(cell: AnalysisCell, out: Path, folder: StudyFolder) -> Mapping[str, Any]:
    found = activation_set(cell.activations, folder)
    last = activation_set(cell.last, folder)
    rows = [asdict(row) for row in measure_set(found, last, cell.settings)]
    (out / MEASUREMENTS).write_text(json.dumps(rows), encoding="utf-8")
    return {"measurements": len(rows)}


def _evaluation(
    cell: EvaluationCell, out: Path, folder: StudyFolder, loaded: LoadedModel
) -> Mapping[str, Any]:
    model = loaded.harness_model(cell)
    model.steer_by(_plan(cell.steering, folder) if cell.steering else SteeringPlan())
    scores, items = evaluate(
        model,
        cell.task,
        out,
        limit=cell.limit,
        settings=cell.task_settings,
        arguments={"pretrained": cell.model.spec, "variant": cell.variant},
    )
    return {"scores": _finite(scores), "items": items}


def _plan(point: SteeringPoint, folder: StudyFolder) -> SteeringPlan:
    vector = load_vector(_finished(point.vector, folder) / VECTOR)
    return SteeringPlan.from_vector(
        vector,
        point.layers,
        alpha=point.alpha,
        action=point.action,
        positions=point.positions,
        scale=point.scale,
    )


def _finite(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return plain numbers and texts, as JSON holds them."""
    return {
        task: {
            key: float(value) if isinstance(value, (int, float, np.floating)) else str(value)
            for key, value in of_task.items()
        }
        for task, of_task in scores.items()
    }

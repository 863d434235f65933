"""How each kind of cell is computed into its folder."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm_eval_trust.benchmarks.load import data_state
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.benchmarks.surface import surface_controls
from lm_eval_trust.evaluate.evaluator import evaluate
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.models.activations import compute_dtype, extract_activations
from lm_eval_trust.models.decoder_blocks import text_blocks
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.models.sources import ModelIdentity, Source, load_tokenizer
from lm_eval_trust.steering.build import layer_evidence, layer_vector, provenance_of
from lm_eval_trust.steering.evidence import to_record
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.reft import lessons
from lm_eval_trust.steering.vectors import SteeringVector, load_vector
from lm_eval_trust.study.activation_sets import ActivationSet, SetInfo, read_set, save_set, set_path
from lm_eval_trust.study.cells import (
    ActivationCell,
    AnalysisCell,
    Cell,
    EvaluationCell,
    StatementChoice,
    SteeringPoint,
    TransferCell,
    VectorCell,
)
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.measure import measure_set, warn_of_what_is_missing
from lm_eval_trust.study.readings import reading_record
from lm_eval_trust.study.transfers import TRANSFERS, transfer_rows

_AS_IT_IS: tuple[str, dict[str, Any]] = ("amber", {})


class LoadedModel:
    """Weights in memory, inside one of our wrappers of the harness.

    The wrapper of the model as it is serves activations and evaluations, steered or not; that of
    an adapter or a proxy-tuned ensemble takes its place when its first cell comes.

    Args:
        source: Where it lies, and which model it is.
        dtype: In which it runs.
        device: A torch device, or ``auto`` for CUDA if there is one.
        batch_size: Batch size of evaluations.
    """

    def __init__(self, source: Source, *, dtype: str, device: str, batch_size: int) -> None:
        self.source = source
        here = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = here if device == "auto" else device
        self._dtype, self._batch_size = dtype, batch_size
        self._wrapped: Any = None
        self._wrapped_as: tuple[str, dict[str, Any]] | None = None

    @property
    def model(self) -> Any:
        """The model as it is, in evaluation mode.

        Raises:
            InputError: It cannot be loaded.
        """
        return self._wrap(*_AS_IT_IS).model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, as it is."""
        return load_tokenizer(self.source)

    @property
    def dtype(self) -> str:
        """In which the model runs."""
        return str(compute_dtype(self.model)).removeprefix("torch.")

    def harness_model(self, cell: EvaluationCell) -> Any:
        """Return the wrapper that a cell evaluates.

        Raises:
            InputError: It cannot be loaded, or an adapter or expert does not fit.
        """
        return self._wrap(*wrapper_of(cell))

    def close(self) -> None:
        """Let go of the weights."""
        if self._wrapped is None:
            return
        self._wrapped = self._wrapped_as = None
        # The harness's model holds itself in circles.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _wrap(self, wrapper: str, arguments: dict[str, Any]) -> Any:
        if self._wrapped_as != (wrapper, arguments):
            self.close()
            here = Path(self.source.location).is_dir()
            self._wrapped = load_model(
                self.source.location,
                arguments if here else arguments | self.source.arguments,
                wrapper=wrapper,
                dtype=self._dtype,
                device=self._device,
                batch_size=self._batch_size,
            )
            self._wrapped_as = (wrapper, arguments)
        return self._wrapped


def wrapper_of(cell: EvaluationCell) -> tuple[str, dict[str, Any]]:
    """Return the harness model that evaluates a cell, and its other arguments."""
    if cell.adapter is not None:
        return "lora_amber", {"adapter": cell.adapter.spec}
    if cell.proxy is not None:
        experts = {"expert": cell.proxy.expert.spec, "antiexpert": cell.proxy.antiexpert.spec}
        return "proxy_amber", {**experts, "proxy_alpha": cell.proxy.alpha}
    return _AS_IT_IS


MEASUREMENTS = "measurements.json"
VECTOR = "vector.safetensors"
_PART = "train"
#: What stands for the statement in a rewording.
STATEMENT = "{statement}"


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
        ExternalError: The same, or a cell that this one needs is missing.
    """
    if isinstance(cell, VectorCell):
        return _vector(cell, out, folder, loaded)
    if isinstance(cell, AnalysisCell):
        return _analysis(cell, out, folder)
    if isinstance(cell, TransferCell):
        return _transfer(cell, out, folder)
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
    return folder.verify(cell)


def _statements(choice: StatementChoice, dimension: str) -> Statements:
    return _loaded(choice, dimension, data_state())


@lru_cache(maxsize=8)
def _loaded(choice: StatementChoice, dimension: str, state: str) -> Statements:
    """Return the statements as the data is now."""
    return choice.load(dimension)


def _activations(cell: ActivationCell, out: Path, loaded: LoadedModel) -> Mapping[str, Any]:
    statements = _statements(cell.statements, cell.dimension)
    layers = text_blocks(loaded.model) if cell.layers is None else cell.layers

    def read(texts: list[str]) -> Any:
        return extract_activations(
            loaded.model, loaded.tokenizer, texts, layers=layers, progress=False
        )

    info = SetInfo(
        checkpoint=cell.model.name,
        step=cell.model.step,
        tokens=cell.model.tokens,
        dimension=cell.dimension,
        data_source=statements.data_source,
        model=loaded.source.identity.text,
    )
    parts = statements.partition(split=cell.statements.split, seed=cell.statements.split_seed)
    controls = {} if cell.wording else surface_controls(statements)
    wording = cell.wording or STATEMENT
    texts = [wording.replace(STATEMENT, text) for text in statements.texts]
    save_set(
        out,
        info,
        read(texts),
        layers=layers,
        labels=statements.labels,
        groups=statements.groups,
        parts=parts,
        texts=texts,
        controls={name: read(matched) for name, matched in controls.items()},
    )
    return {
        "reading": reading_record(loaded.tokenizer, texts),
        "statements": len(statements),
        "data": statements.settings,
        "identity": asdict(loaded.source.identity),
        "dtype": loaded.dtype,
    }


def _vector(
    cell: VectorCell, out: Path, folder: StudyFolder, loaded: LoadedModel | None
) -> Mapping[str, Any]:
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
        method=cell.method,
        split=choice.split,
        split_seed=choice.split_seed,
        part=_PART,
    )
    rows = found.parts.train
    used = statements.select(rows)
    beyond = found.parts.validation
    held_out = statements.select(beyond) if len(beyond) else None
    lesson = None
    if cell.needs_model:
        assert loaded is not None
        lesson = lessons(loaded.model, loaded.tokenizer, used, progress=False)
    layers, evidence = {}, {}
    for i in found.layers:
        values = found.layer(i)
        of_layer = partial(lesson, i, values[rows]) if lesson is not None else None
        layers[i] = layer_vector(cell.method, values[rows], used, of_layer)
        evidence[i] = layer_evidence(layers[i], values[rows], used, values[beyond], held_out)
    provenance = replace(provenance, evidence=to_record(evidence))
    vector = SteeringVector(layers, provenance, name=f"{source.dimension} vector")
    vector.save(out / VECTOR)
    return {"provenance": provenance.summary(), "layers": list(found.layers)}


def _analysis(cell: AnalysisCell, out: Path, folder: StudyFolder) -> Mapping[str, Any]:
    found = activation_set(cell.activations, folder)
    last = activation_set(cell.last, folder)
    warn_of_what_is_missing(found, cell.settings)
    rows = [asdict(row) for row in measure_set(found, last, cell.settings)]
    (out / MEASUREMENTS).write_text(json.dumps(rows), encoding="utf-8")
    return {"measurements": len(rows)}


def _transfer(cell: TransferCell, out: Path, folder: StudyFolder) -> Mapping[str, Any]:
    rows = transfer_rows(
        activation_set(cell.activations, folder),
        [(activation_set(target, folder), target.wording) for target in cell.targets],
        cell.probes,
        cell.layers,
    )
    (out / TRANSFERS).write_text(json.dumps(rows), encoding="utf-8")
    return {"transfers": len(rows)}


def _evaluation(
    cell: EvaluationCell, out: Path, folder: StudyFolder, loaded: LoadedModel
) -> Mapping[str, Any]:
    model = loaded.harness_model(cell)
    model.steer_by(_plan(cell.steering, folder) if cell.steering else SteeringPlan())
    settings = json.dumps(cell.task_settings, sort_keys=True)
    index = _index(settings, data_state() + cell.context)
    outcome = evaluate(
        model,
        index.load([cell.task], limit=cell.limit),
        out,
        model_args={"pretrained": cell.model.spec, "variant": cell.variant},
        batch_size=model.batch_size,
        device=str(model.device),
    )
    broken = {task: found.nonfinite for task, found in outcome.measurements.items()}
    return {"scores": _finite(outcome.scores), "items": outcome.counts, "nonfinite": broken}


def _plan(point: SteeringPoint, folder: StudyFolder) -> SteeringPlan:
    return point.steering.plan(load_vector(_finished(point.vector, folder) / VECTOR))


def _finite(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return plain numbers and texts, as JSON holds them."""
    return {
        task: {
            key: float(value) if isinstance(value, (int, float, np.floating)) else str(value)
            for key, value in of_task.items()
        }
        for task, of_task in scores.items()
    }


@lru_cache(maxsize=8)
def _index(settings: str, state: str) -> TaskIndex:
    """Return tasks with some settings; rows and judges are those of the present state."""
    return TaskIndex(json.loads(settings))


def load_model(
    location: str,
    arguments: Mapping[str, Any],
    *,
    wrapper: str,
    dtype: str,
    device: str,
    batch_size: int,
) -> Any:
    """Load one of our wrappers around a model.

    Args:
        location: Folder, Hub name or name of an embedded model.
        arguments: Further model arguments.
        wrapper: Name of the harness model, e.g. ``amber``.
        dtype: See :func:`lm_eval_trust.models.sources.load_source`.
        device: A torch device.
        batch_size: Batch size of requests.

    Raises:
        InputError: As the wrapper raises.
        ExternalError: The same.
    """
    from lm_eval.api.registry import get_model

    from lm_eval_trust.plugin import register_models

    register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with loading_errors(f"a model from {location}"):
        return get_model(wrapper)(
            pretrained=location,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            **arguments,
        )

"""A study's grid: which cells its file asks for."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.load import data_state
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.checkpoints.families import FamilySettings, open_family
from lm_eval_trust.core.errors import TrustError
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.yaml_file import Document
from lm_eval_trust.evaluate.harness import brought_by_package, check_tasks
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.study.cells import (
    ActivationCell,
    AdapterPoint,
    AnalysisCell,
    Cell,
    EvaluationCell,
    ProxyPoint,
    StatementChoice,
    SteeringPoint,
    TransferCell,
    VectorCell,
    evaluation_context,
)
from lm_eval_trust.study.measure import INPUT_LAYER, AnalysisSettings
from lm_eval_trust.study.models import Identities, StudyModel, find_model, model_of_checkpoint
from lm_eval_trust.study.spec import EvaluationSpec, Models, SteeringGridSpec, StudySpec

_PLAIN: tuple[None] = (None,)


@dataclass(frozen=True)
class Grid:
    """All cells of a study.

    Attributes:
        activations: By checkpoint and source, dimension and seed.
        vectors: Vectors of every source.
        analyses: Analyses of every checkpoint, dimension and seed.
        transfers: The same.
        evaluations: Entry's name → its cells.
    """

    activations: tuple[ActivationCell, ...]
    vectors: tuple[VectorCell, ...]
    analyses: tuple[AnalysisCell, ...]
    transfers: tuple[TransferCell, ...]
    evaluations: Mapping[str, tuple[EvaluationCell, ...]]

    @property
    def cells(self) -> list[Cell]:
        """Each cell once, those of the first stage before those that need their results."""
        evaluations = [cell for cells in self.evaluations.values() for cell in cells]
        first: list[Cell] = [*self.activations, *self.vectors, *evaluations]
        every: list[Cell] = [*first, *self.analyses, *self.transfers]
        return list({cell.name: cell for cell in every}.values())


class Study:
    """A study whose names were looked up: models have identities, tasks and layers exist.

    Args:
        spec: What the file declares.
        document: The file, for messages.
        identities: Says which models the names stand for.

    Raises:
        InputError: A name that does not exist; file, line and key are reported.
        ExternalError: The Hub cannot be reached.
    """

    def __init__(self, spec: StudySpec, document: Document, identities: Identities) -> None:
        self.spec, self._document, self._identities = spec, document, identities
        self._contexts: dict[str, str] = {}
        with document.at("family"):
            self.family = open_family(FamilySettings(**spec.family.model_dump()))
        with document.at("checkpoints"):
            which = spec.checkpoints
            chosen = self.family.choose(which if isinstance(which, str) else list(which))
        with document.at("family"):
            self._known = [model_of_checkpoint(found) for found in self.family.checkpoints]
            self.checkpoints = tuple(identities.pin(model_of_checkpoint(c)) for c in chosen)
        for number, entry in enumerate(spec.evaluations):
            with document.at("evaluations", number, "tasks"):
                check_tasks(entry.tasks)

    def grid(self, skipped: Collection[str] = ()) -> Grid:
        """Return the cells.

        Args:
            skipped: Names of models that cannot be fetched; no cell needs them.

        Raises:
            InputError: As the constructor.
        """
        return _GridBuilder(self, frozenset(skipped)).build()

    def model(self, spec: str) -> StudyModel:
        """Return the model of a name."""
        return self._identities.pin(find_model(spec, self._known))

    def context(self, task: str) -> str:
        """Return what the scores of a task depend on, asked for once: a judge may be on the Hub."""
        if task not in self._contexts:
            spec = self.spec
            self._contexts[task] = evaluation_context(task, spec.metadata, spec.data.split_seed)
        return self._contexts[task]

    def at(self, *place: str | int) -> Any:
        """Add the place in the file to errors raised inside."""
        return self._document.at(*place)

    def remember(self) -> None:
        """Keep which models the names stood for, for times without the Hub."""
        self.grid()
        self._identities.save()

    def settings(self, seed: int) -> AnalysisSettings:
        """Return what is measured on activations."""
        spec = self.spec
        measures = [name for name in ("probes", "information") if name in spec.compute]
        # What is not measured stays at its defaults, so that no cell depends on it.
        probes = spec.probes.model_dump() if "probes" in measures else {}
        information = (
            spec.information.model_dump(exclude={"samples"}) if "information" in measures else {}
        )
        return AnalysisSettings(
            probes=ProbeSettings(**probes, seed=seed),
            information=InformationSettings(**information, seed=seed),
            samples=spec.information.samples,
            layers=spec.layers,
            measures=(*measures, "cka"),
        )


class _GridBuilder:
    def __init__(self, study: Study, skipped: frozenset[str]) -> None:
        self._study, self._spec, self._skipped = study, study.spec, skipped
        self._checkpoints = [m for m in study.checkpoints if m.name not in skipped]
        self._steered_layers = self._layers_of_sources()
        self._activations: dict[str, ActivationCell] = {}
        self._vectors: dict[str, VectorCell] = {}

    def build(self) -> Grid:
        evaluations = {
            entry.name: tuple(self._evaluations(number, entry))
            for number, entry in enumerate(self._spec.evaluations)
        }
        computed = set(self._spec.compute)
        pairs = [(d, s) for s in self._spec.seeds for d in self._spec.dimensions]
        for model in self._checkpoints:
            for dimension, seed in pairs:
                if computed:
                    self._activation(model, dimension, seed)
                if "vectors" in computed:
                    self._vector(model, dimension, seed)
        analyses = self._analyses(pairs) if self._spec.analysed else ()
        transfers = tuple(self._transfers(pairs)) if "transfer" in computed else ()
        return Grid(
            tuple(self._activations.values()),
            tuple(self._vectors.values()),
            analyses,
            transfers,
            evaluations,
        )

    def _transfers(self, pairs: Sequence[tuple[str, int]]) -> Iterator[TransferCell]:
        """Yield a cell for each source: to all checkpoints, other dimensions, and rewordings."""
        reworded = self._spec.rewordings
        for model in self._checkpoints:
            for dimension, seed in pairs:
                others = [d for d in self._spec.dimensions if d != dimension]
                yield TransferCell(
                    self._activation(model, dimension, seed),
                    (
                        *(self._activation(m, dimension, seed) for m in self._checkpoints),
                        *(self._activation(model, other, seed) for other in others),
                        *(self._activation(model, dimension, seed, w) for w in reworded),
                    ),
                    ProbeSettings(**self._spec.probes.model_dump(), seed=seed),
                    self._spec.layers,
                )

    def _analyses(self, pairs: Sequence[tuple[str, int]]) -> tuple[AnalysisCell, ...]:
        if not self._checkpoints:
            return ()
        last = self._checkpoints[-1]
        return tuple(
            AnalysisCell(
                self._activation(model, dimension, seed),
                self._activation(last, dimension, seed),
                self._study.settings(seed),
            )
            for model in self._checkpoints
            for dimension, seed in pairs
        )

    def _activation(
        self, model: StudyModel, dimension: str, seed: int, wording: str = ""
    ) -> ActivationCell:
        layers = self._spec.layers
        if layers is not None:
            further = self._steered_layers.get(model.spec, frozenset())
            # I(T, X) needs X, whichever blocks T is.
            inputs = {INPUT_LAYER} if "information" in self._spec.compute else set()
            layers = tuple(sorted({*layers, *further, *inputs}))
        statements = self._statements(seed)
        content = _content(statements, dimension, data_state())
        dtype = self._spec.dtype
        cell = ActivationCell(model, dimension, statements, layers, dtype, content, wording)
        return self._activations.setdefault(cell.name, cell)

    def _vector(self, model: StudyModel, dimension: str, seed: int) -> VectorCell:
        cell = VectorCell(self._activation(model, dimension, seed), self._spec.method)
        return self._vectors.setdefault(cell.name, cell)

    def _statements(self, seed: int) -> StatementChoice:
        data = self._spec.data
        return StatementChoice(data.source, seed, data.split, data.split_seed, data.statements)

    def _layers_of_sources(self) -> dict[str, frozenset[int]]:
        """Return the blocks that each source's vectors are used at."""
        found: dict[str, frozenset[int]] = {}
        for number, entry in enumerate(self._spec.evaluations):
            if entry.steering is None:
                continue
            layers = frozenset(layer for point in entry.steering.layers for layer in point)
            place = ("evaluations", number, "steering", "sources")
            sources = entry.steering.sources
            for model in self._models(entry.models if sources == "own" else sources, *place):
                found[model.spec] = found.get(model.spec, frozenset()) | layers
        return found

    def _models(self, models: Models, *place: str | int) -> list[StudyModel]:
        if models == "checkpoints":
            return self._checkpoints
        found = []
        for number, name in enumerate(models):
            with self._study.at(*place, number):
                found.append(self._study.model(name))
        return [model for model in found if model.name not in self._skipped]

    def _evaluations(self, number: int, entry: EvaluationSpec) -> Iterator[EvaluationCell]:
        place = ("evaluations", number)
        changes = list(self._changes(entry, place))
        for seed in self._spec.seeds:
            for model in self._models(entry.models, *place, "models"):
                points = self._points(entry.steering, seed, (*place, "steering"), model)
                for task in entry.tasks:
                    for point in points:
                        cell = EvaluationCell(
                            model=model,
                            task=task,
                            limit=entry.limit,
                            statements=self._statements(seed),
                            metadata=tuple(sorted(self._spec.metadata.items())),
                            dtype=self._spec.dtype,
                            steering=point,
                            context=self._study.context(task),
                            **dict(changes),
                        )
                        yield replace(cell, content=_content_of_task(cell))

    def _changes(
        self, entry: EvaluationSpec, place: tuple[str | int, ...]
    ) -> Iterator[tuple[str, Any]]:
        if entry.proxy is not None:
            with self._study.at(*place, "proxy"):
                expert = self._study.model(entry.proxy.expert)
                antiexpert = self._study.model(entry.proxy.antiexpert)
            yield "proxy", ProxyPoint(expert, antiexpert, entry.proxy.alpha)
        if entry.adapter is not None:
            with self._study.at(*place, "adapter"):
                adapter = find_adapter(entry.adapter)
            yield "adapter", AdapterPoint(adapter.spec, adapter.identity)

    def _points(
        self,
        steering: SteeringGridSpec | None,
        seed: int,
        place: tuple[str | int, ...],
        model: StudyModel,
    ) -> Sequence[SteeringPoint | None]:
        """Return the steering points, of which ``None`` is the model as it is: every α = 0."""
        if steering is None:
            return _PLAIN
        points: list[SteeringPoint | None] = [None] if 0 in steering.alphas else []
        named = steering.sources
        sources = [model] if named == "own" else self._models(named, *place, "sources")
        for source in sources:
            for dimension in steering.dimensions:
                vector = self._vector(source, find_dimension(dimension).name, seed)
                points += [
                    SteeringPoint(
                        vector,
                        SteeringSpec(
                            dimension=dimension,
                            source=source.spec,
                            layer=layers,
                            alpha=alpha,
                            positions=steering.positions,
                            action=steering.action,
                            scale=steering.scale,
                            target=steering.target,
                            when=steering.when,
                            method=self._spec.method,
                        ),
                    )
                    for layers in steering.layers
                    for alpha in steering.alphas
                    if alpha != 0
                ]
        return points


@functools.lru_cache(maxsize=64)
def _content(choice: StatementChoice, dimension: str, state: str) -> str:
    """Return the digest of a dimension's statements; empty where they cannot be read here."""
    try:
        found = choice.load(dimension)
    except TrustError:
        # A dry run needs no data; a worker that does will say what is missing.
        return ""
    return content_id(*(f"{item.id} {item.group}" for item in found.items))


def _content_of_task(cell: EvaluationCell) -> str:
    """Return the identity of another package's task, items included; empty for other tasks."""
    if not brought_by_package(cell.task):
        return ""
    settings = json.dumps(cell.task_settings, sort_keys=True, default=str)
    return _loaded_identity(cell.task, cell.limit, settings, data_state() + cell.context)


@functools.lru_cache(maxsize=64)
def _loaded_identity(task: str, limit: int | None, settings: str, state: str) -> str:
    try:
        return TaskIndex(json.loads(settings)).load([task], limit=limit).identity
    except (TrustError, OSError):
        # As above: a dry run needs no data.
        return ""

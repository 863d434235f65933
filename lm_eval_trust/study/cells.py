"""The cells of a study's grid: each is computed once, and found again by what it depends on.

A cell's recipe names everything that its result depends on, and nothing of how it is computed:
neither engine nor device, batch size or machine.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.files import unpinned_files
from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import TrustError
from lm_eval_trust.core.file_digest import file_digest
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.evaluate.evaluator import software
from lm_eval_trust.evaluate.harness import judges_of
from lm_eval_trust.judges.settings import JudgeSettings
from lm_eval_trust.steering.hub_names import hub_name
from lm_eval_trust.steering.methods import METHODS
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.study.measure import VERSION, AnalysisSettings
from lm_eval_trust.study.models import StudyModel

_LONGEST_TITLE = 100


@dataclass(frozen=True)
class StatementChoice:
    """Which statements, and how they are divided.

    Attributes:
        source: ``official``, ``tracingllm`` or ``mini``.
        seed: Seed of every choice in the data.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        number: At most so many; ``None`` for all.
    """

    source: str
    seed: int
    split: str
    split_seed: int
    number: int | None

    def load(self, dimension: str) -> Statements:
        """Return the statements of a dimension.

        Raises:
            InputError: See :func:`lm_eval_trust.benchmarks.load.load_statements`.
            MissingDataError: See there.
        """
        from lm_eval_trust.benchmarks.load import load_statements

        found = load_statements(dimension, data_source=self.source, data_seed=self.seed)
        return found if self.number is None else found.sample(self.number, seed=self.seed)

    def recipe(self) -> dict[str, Any]:
        """Return what the statements depend on."""
        return asdict(self) | DATA_SOURCES[self.source].record()


class Cell(ABC):
    """One piece of work."""

    #: Name of the kind, and of its folder.
    kind: ClassVar[str]
    #: Changes when the kind is computed in another way, so that old cells are not taken for new.
    format: ClassVar[int] = 2
    model: StudyModel

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Return everything that the result depends on, as JSON-like values."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A readable name; several cells may share it."""

    @property
    def needs_model(self) -> bool:
        """Whether the model has to be loaded."""
        return True

    @property
    def needs_others(self) -> bool:
        """Whether it needs what other models' cells give."""
        return False

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the recipe."""
        return fingerprint({"kind": self.kind, "format": self.format, **self.recipe()})

    @cached_property
    def name(self) -> str:
        """``KIND/TITLE-FINGERPRINT``, the cell's folder below that of all cells."""
        readable = re.sub(r"[^A-Za-z0-9._+@=-]+", "-", self.title)[:_LONGEST_TITLE]
        return f"{self.kind}/{readable}-{self.fingerprint[:8]}"


@dataclass(frozen=True)
class ActivationCell(Cell):
    """Activations of a dimension's statements.

    Attributes:
        model: Which model reads them.
        dimension: Dimension of the statements.
        statements: Which statements.
        layers: 0-based decoder blocks; ``None`` for all.
        dtype: In which the model runs.
        content: Digest of the statements; empty where they could not be read in advance.
        wording: How each is put, with ``{statement}`` in it; empty for as it is.
    """

    kind: ClassVar[str] = "activations"
    format: ClassVar[int] = 3
    model: StudyModel
    dimension: str
    statements: StatementChoice
    layers: tuple[int, ...] | None
    dtype: str
    content: str = ""
    wording: str = ""

    def recipe(self) -> dict[str, Any]:  # noqa: D102
        recipe = {
            "model": self.model.identity,
            "dtype": self.dtype,
            "dimension": self.dimension,
            "statements": self.statements.recipe(),
            "content": self.content,
            "layers": self.layers,
        }
        return {**recipe, "wording": self.wording} if self.wording else recipe

    @property
    def title(self) -> str:  # noqa: D102
        reworded = "-reworded" if self.wording else ""
        return f"{self.model.name}-{self.dimension}-seed{self.statements.seed}{reworded}"


@dataclass(frozen=True)
class _ReadingCell(Cell):
    """Something of a model's activations.

    Attributes:
        activations: What is read.
    """

    activations: ActivationCell

    @property
    def model(self) -> StudyModel:  # type: ignore[override]
        """Whose activations."""
        return self.activations.model

    @property
    def title(self) -> str:
        return self.activations.title

    @property
    def needs_model(self) -> bool:
        return False

    @property
    def needs_others(self) -> bool:
        return True


@dataclass(frozen=True)
class VectorCell(_ReadingCell):
    """The vector of a model's activations, from the training part.

    Attributes:
        activations: What it is built from.
        method: How; a name of :data:`lm_eval_trust.steering.methods.METHODS`.
    """

    kind: ClassVar[str] = "vectors"
    method: str = "mass_mean"

    @property
    def needs_model(self) -> bool:  # noqa: D102
        return METHODS[self.method].train is not None

    @property
    def needs_others(self) -> bool:  # noqa: D102
        return False

    def recipe(self) -> dict[str, Any]:  # noqa: D102
        return {"method": self.method, "part": "train", "activations": self.activations.recipe()}


@dataclass(frozen=True)
class AnalysisCell(_ReadingCell):
    """Probes and dependence of a model's activations.

    Attributes:
        activations: What is analysed.
        last: The same of the final checkpoint.
        settings: What is measured.
    """

    kind: ClassVar[str] = "analysis"
    format: ClassVar[int] = VERSION
    last: ActivationCell
    settings: AnalysisSettings

    def recipe(self) -> dict[str, Any]:  # noqa: D102
        layers = self.activations.layers
        return {
            # More blocks in the set change nothing, unless the lowest, the input, is another.
            "activations": {**self.activations.recipe(), "layers": min(layers) if layers else None},
            "last": self.last.model.identity,
            "settings": asdict(self.settings),
        }


@dataclass(frozen=True)
class TransferCell(_ReadingCell):
    """Probes and vectors of a model's activations, applied to other activations.

    Attributes:
        activations: What they are fitted on.
        targets: What they are applied to: of other checkpoints, and of other dimensions.
        probes: How they are fitted.
        layers: 0-based decoder blocks; ``None`` for all.
    """

    kind: ClassVar[str] = "transfer"
    targets: tuple[ActivationCell, ...]
    probes: ProbeSettings
    layers: tuple[int, ...] | None

    def recipe(self) -> dict[str, Any]:  # noqa: D102
        return {
            "activations": self.activations.recipe(),
            "targets": [target.recipe() for target in self.targets],
            "probes": asdict(self.probes),
            "layers": self.layers,
        }


@dataclass(frozen=True)
class SteeringPoint:
    """How a model is steered.

    Attributes:
        vector: By which vector.
        steering: Where and how strongly; it names the vector's dimension and source.
    """

    vector: VectorCell
    steering: SteeringSpec

    @property
    def layer_text(self) -> str:
        """Blocks as users write them, e.g. ``18+19``."""
        return self.steering.layer_text

    @property
    def alpha(self) -> float:
        """Strength."""
        return self.steering.alpha

    def recipe(self) -> dict[str, Any]:
        """Return what the steering depends on: of the vector, the directions that are used."""
        vector = self.vector.recipe()
        vector["activations"].pop("layers")
        recipe = {**self.steering.recipe(), "vector": vector}
        # A name on the Hub is pinned to a commit there; a file can change.
        if self.steering.condition and not hub_name(self.steering.condition.vector):
            recipe["when"]["vector"] = file_digest(Path(self.steering.condition.vector))
        return recipe


@dataclass(frozen=True)
class ProxyPoint:
    """By which models one is moved.

    Attributes:
        expert: Towards which.
        antiexpert: Away from which.
        alpha: How strongly.
    """

    expert: StudyModel
    antiexpert: StudyModel
    alpha: float

    def recipe(self) -> dict[str, Any]:
        """Return what the movement depends on."""
        parts = (self.expert.identity, self.antiexpert.identity)
        return {"expert": parts[0], "antiexpert": parts[1], "alpha": self.alpha}


@dataclass(frozen=True)
class AdapterPoint:
    """An adapter on the model.

    Attributes:
        spec: Folder or Hub name.
        identity: Which adapter it is.
    """

    spec: str
    identity: str


@dataclass(frozen=True)
class EvaluationCell(Cell):
    """One model, as it is or changed, on one task or group of the harness.

    Attributes:
        model: Which model.
        task: Which task or group.
        limit: Items of a task at most.
        statements: How the benchmarks are divided, and their seed.
        metadata: Further settings of tasks, sorted.
        dtype: In which the model runs.
        steering: How it is steered, if it is.
        proxy: By which models it is moved, if it is.
        adapter: Which adapter it carries, if any.
        context: What else answers and scores depend on: see :func:`evaluation_context`.
        content: Identity of the items and settings of another package's task; empty for other
            tasks, and where it could not be loaded in advance.
    """

    kind: ClassVar[str] = "evaluations"
    model: StudyModel
    task: str
    limit: int | None
    statements: StatementChoice
    metadata: tuple[tuple[str, Any], ...]
    dtype: str
    steering: SteeringPoint | None = None
    proxy: ProxyPoint | None = None
    adapter: AdapterPoint | None = None
    context: str = ""
    content: str = ""

    @property
    def needs_others(self) -> bool:  # noqa: D102
        return self.steering is not None

    @property
    def task_settings(self) -> dict[str, Any]:
        """Settings of the tasks, as in ``--metadata``."""
        chosen = self.statements
        settings: dict[str, Any] = {
            "split": chosen.split,
            "split_seed": chosen.split_seed,
            "data_seed": chosen.seed,
        }
        if not DATA_SOURCES[chosen.source].tasks_of_its_own:
            settings["data_source"] = chosen.source
        return {**settings, **dict(self.metadata)}

    def recipe(self) -> dict[str, Any]:  # noqa: D102
        return {
            "model": self.model.identity,
            "dtype": self.dtype,
            "task": self.task,
            "limit": self.limit,
            "settings": self.task_settings,
            "context": self.context,
            "content": self.content,
            "steering": self.steering.recipe() if self.steering else None,
            "proxy": self.proxy.recipe() if self.proxy else None,
            "adapter": self.adapter.identity if self.adapter else None,
        }

    @property
    def variant(self) -> str:
        """The model and what was done to it, e.g. ``mini-chat+v(reliability,ckpt_014)``."""
        if self.steering is not None:
            activations = self.steering.vector.activations
            return f"{self.model.name}+v({activations.dimension},{activations.model.name})"
        if self.proxy is not None:
            return f"{self.model.name}+proxy({self.proxy.expert.name})"
        if self.adapter is not None:
            return f"{self.model.name}+adapter({os.path.basename(self.adapter.spec.rstrip('/'))})"
        return self.model.name

    @property
    def title(self) -> str:  # noqa: D102
        point = self.steering
        strength = f"-L{point.layer_text}-a{point.alpha:g}" if point else ""
        return f"{self.variant}{strength}-{self.task}-seed{self.statements.seed}"


def evaluation_context(task: str, metadata: Mapping[str, Any], split_seed: int) -> str:
    """Return the identity of what a task's scores depend on, apart from model and task settings.

    These are its judges with their settings, the files that users may bring in their own form, the
    sources of data, and the versions of the libraries. No task is loaded for it, since that may
    take judges and data sets from the Hub; what comes with other packages, whose versions are not
    known to change with it, is in a cell's ``content``.
    """
    judges = {}
    for setting, choice in sorted(judges_of(task).items()):
        try:
            judges[setting] = choice.identity(metadata, split_seed=split_seed)
        except TrustError:
            # The judge is not available here; whoever needs it will say so.
            judges[setting] = choice.chosen(metadata)
    return fingerprint(
        {
            "judges": judges,
            "judge_settings": JudgeSettings.from_sources(metadata).of_verdicts,
            "files": unpinned_files(),
            "sources": {name: source.record() for name, source in DATA_SOURCES.items()},
            "software": software(),
        }
    )

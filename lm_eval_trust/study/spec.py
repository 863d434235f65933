"""What a study's YAML file may say: the declared keys, their values and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from lm_eval_trust.analysis.estimators import ESTIMATORS
from lm_eval_trust.benchmarks.registry import DATA_SOURCES, DIMENSIONS, find_dimension
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.strict_model import StrictModel
from lm_eval_trust.core.yaml_file import Document
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.models.sources import DTYPES
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.spec import POSITIONS, check_setting
from lm_eval_trust.study.human_units import parse_bytes, parse_rate

#: Names of a study and of its evaluations become folders and columns.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
COMPUTED = ("activations", "probes", "information", "vectors", "transfer")


def _one_of(kind: str, known: Collection[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise unknown_name(kind, str(value), known)
        return str(value)

    return check


def _dimension(value: Any) -> str:
    return find_dimension(str(value)).name


def _layers(value: Any) -> tuple[int, ...] | None:
    """Return blocks written as ``all`` (``None``), ``0+6+12``, ``18-19``, a number or a list."""
    if value in ("all", None):
        return None
    parts = value if isinstance(value, list) else [value]
    return tuple(sorted(parse_layers("+".join(map(str, parts)))))


def _point_layers(value: Any) -> tuple[int, ...]:
    layers = _layers(value)
    if not layers:
        raise InputError(f"{value!r} is no block to steer; write 16, or 18+19 for both at once.")
    return layers


Dimension = Annotated[str, BeforeValidator(_dimension)]
Layers = Annotated[tuple[int, ...] | None, BeforeValidator(_layers)]
PointLayers = Annotated[tuple[int, ...], BeforeValidator(_point_layers)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Rate = Annotated[int, BeforeValidator(parse_rate)]
Models = Literal["checkpoints"] | tuple[str, ...]


class FamilySpec(StrictModel):
    """Whose checkpoints: a preset's ``name``, ``hub`` or ``folder`` with a pattern, or a ``file``.

    See :class:`lm_eval_trust.checkpoints.families.FamilySettings`.

    Attributes:
        name: Preset, such as ``amber``, ``pythia-1b`` or ``mini``.
        hub: Hub repository whose revisions are checkpoints.
        folder: Folder whose sub-folders are checkpoints.
        file: YAML file that describes the family.
        pattern: Regular expression of the checkpoints' names, with a group ``step``.
        tokens_per_step: Tokens that a training step reads.
    """

    name: str | None = None
    hub: str | None = None
    folder: str | None = None
    file: str | None = None
    pattern: str | None = None
    tokens_per_step: PositiveInt | None = None


class DataSpec(StrictModel):
    """Which statements activations are read from, and how benchmarks are divided.

    Attributes:
        source: Source of the data.
        split: How groups are divided into parts.
        split_seed: Seed of the partition.
        statements: Statements of each dimension at most.
    """

    source: Annotated[str, BeforeValidator(_one_of("data source", DATA_SOURCES))] = "official"
    split: Annotated[str, BeforeValidator(_one_of("split", ("grouped", "random")))] = "grouped"
    split_seed: NonNegativeInt = 0
    statements: PositiveInt | None = 2000


class InformationSpec(StrictModel):
    """Dependence that is measured; see :mod:`lm_eval_trust.analysis.information`.

    Attributes:
        estimator: Which measure.
        sigma: Kernel width, or ``median``.
        epsilon: Regularisation of nHSIC.
        permutations: Permutations of the null.
        samples: Statements that are used, the same number at all checkpoints.
        precision: ``mixed`` multiplies activations in float32 and does all else in float64;
            ``float64`` takes a quarter longer.
    """

    estimator: Annotated[str, BeforeValidator(_one_of("estimator", ESTIMATORS))] = "nhsic"
    sigma: PositiveFloat | Literal["median"] = 50.0
    epsilon: PositiveFloat = 1e-5
    permutations: NonNegativeInt = 200
    samples: PositiveInt = 2000
    precision: Annotated[str, BeforeValidator(_one_of("precision", ("float64", "mixed")))] = "mixed"


class ProbesSpec(StrictModel):
    """How probes are fitted; see :class:`lm_eval_trust.analysis.probing.ProbeSettings`.

    Attributes:
        regularisations: Values of C, of which the validation part chooses.
        controls: Probes that are fitted to permuted labels.
    """

    regularisations: tuple[PositiveFloat, ...] = (1.0,)
    controls: NonNegativeInt = 5


def _rewording(value: Any) -> str:
    if not isinstance(value, str) or "{statement}" not in value or value == "{statement}":
        raise InputError(f"{value!r} is no rewording; write e.g. 'Somebody said: {{statement}}'.")
    return value


Rewording = Annotated[str, BeforeValidator(_rewording)]


class SteeringGridSpec(StrictModel):
    """A grid of steering: sources × dimensions × layers × alphas.

    ``sources: own`` steers each model by its own vectors only.

    Attributes:
        sources: Checkpoints that vectors are built from, or ``own``.
        dimensions: Dimensions whose vectors are used.
        layers: Decoder blocks; ``14+16`` steers two at once.
        alphas: Strengths.
        positions: Which tokens are steered.
        action: What is done with the vector.
        scale: What α counts.
        target: Projection that ``clamp`` sets.
        when: Condition for steering a prompt, as in a steering file.
    """

    sources: Literal["own"] | Models
    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    layers: tuple[PointLayers, ...] = Field(min_length=1)
    alphas: tuple[float, ...] = Field(min_length=1)
    positions: Annotated[str, BeforeValidator(_one_of("kind of positions", POSITIONS))] = (
        "generated"
    )
    action: Annotated[str, BeforeValidator(_one_of("steering action", ACTIONS))] = "add"
    scale: Annotated[str, BeforeValidator(partial(check_setting, "scale"))] = "projection_std"
    target: float | None = None
    when: Annotated[Any, BeforeValidator(partial(check_setting, "when"))] = None


class ProxySpec(StrictModel):
    """Models that move each evaluated one: base + alpha (expert − anti-expert).

    Attributes:
        expert: ``MODEL[@REVISION]`` whose logits are added.
        antiexpert: ``MODEL[@REVISION]`` whose logits are subtracted.
        alpha: Strength.
    """

    expert: str
    antiexpert: str
    alpha: float = 1.0


class EvaluationSpec(StrictModel):
    """A grid of evaluations: models × tasks, and steering points if there is steering.

    Attributes:
        name: Name of the entry, unique in the study.
        models: Models to evaluate, or ``checkpoints`` for the study's own.
        tasks: Tasks, groups or tags.
        limit: Items of each task at most.
        steering: Steers the models.
        proxy: Proxy-tunes the models.
        adapter: LoRA adapter that the models get.
    """

    name: Name
    models: Models
    tasks: tuple[str, ...] = Field(min_length=1)
    limit: PositiveInt | None = None
    steering: SteeringGridSpec | None = None
    proxy: ProxySpec | None = None
    adapter: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> EvaluationSpec:
        given = [n for n in ("steering", "proxy", "adapter") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} exclude each other; write an entry for each.")
        return self


class BudgetSpec(StrictModel):
    """Disk that downloaded checkpoints may take on a machine.

    Attributes:
        disk: Bytes, such as ``40 GB``.
        checkpoints: Number of checkpoints.
    """

    disk: Bytes | None = None
    checkpoints: PositiveInt | None = None


class EngineSpec(StrictModel):
    """How the work is executed; no result depends on it.

    Attributes:
        name: ``local``, ``inline`` or ``ray``.
        workers: Worker processes.
        address: Address of a Ray cluster.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.
        device: Device of a worker; ``auto`` takes CUDA if there is one.
        batch_size: Texts that are read at once.
        threads: Threads of a worker.
        scratch: Folder for downloaded checkpoints.
    """

    name: str = "local"
    workers: PositiveInt | None = None
    address: str | None = None
    cpus: PositiveFloat = 1.0
    gpus: float | None = Field(default=None, ge=0)
    device: str = "auto"
    batch_size: PositiveInt = 8
    threads: PositiveInt | None = None
    scratch: str | None = None


class AssumeSpec(StrictModel):
    """What ``--dry-run`` assumes before anything was measured.

    Attributes:
        bandwidth: Download rate, such as ``100 MB/s``.
        flops: Floating-point operations per second that a worker reaches while reading.
        parameters: Parameters of a model; half its bytes by default.
        writing: How many tokens are read in the time that one is generated.
    """

    bandwidth: Rate = 100 * 10**6
    flops: PositiveFloat = 1.0e12
    parameters: PositiveFloat | None = None
    writing: PositiveFloat = 8.0


class StudySpec(StrictModel):
    """A whole study.

    Attributes:
        study: Name of the study; a folder belongs to one study.
        family: Whose checkpoints.
        checkpoints: Which of them: ``all``, names, stages, ``FIRST..LAST``, ``every 10``,
            ``log 12``.
        dimensions: Dimensions whose statements are read.
        data: Which statements, and how benchmarks are divided.
        layers: Decoder blocks; all by default.
        seeds: Seeds of the draws.
        method: How vectors are built.
        compute: What is computed from the activations.
        probes: How probes are fitted.
        rewordings: Templates with ``{statement}`` in which probes are tried as well.
        information: Dependence that is measured.
        evaluations: Benchmarks to run.
        metadata: Settings of the tasks, as ``lm_eval --metadata``.
        dtype: Number format of the models.
        budget: Disk that checkpoints may take.
        engine: How the work is executed.
        assume: What ``--dry-run`` assumes.
    """

    study: Name
    family: FamilySpec
    checkpoints: str | tuple[str, ...] = "all"
    dimensions: tuple[Dimension, ...] = tuple(d.name for d in DIMENSIONS)
    data: DataSpec = DataSpec()
    layers: Layers = None
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    method: Annotated[str, BeforeValidator(partial(check_setting, "method"))] = "mass_mean"
    compute: tuple[Annotated[str, BeforeValidator(_one_of("computation", COMPUTED))], ...] = ()
    probes: ProbesSpec = ProbesSpec()
    rewordings: tuple[Rewording, ...] = ()
    information: InformationSpec = InformationSpec()
    evaluations: tuple[EvaluationSpec, ...] = ()
    metadata: dict[str, str | int | float | bool] = Field(default_factory=dict)
    dtype: Annotated[str, BeforeValidator(_one_of("dtype", DTYPES))] = "float32"
    budget: BudgetSpec = BudgetSpec()
    engine: EngineSpec = EngineSpec()
    assume: AssumeSpec = AssumeSpec()

    @model_validator(mode="after")
    def _something_to_do(self) -> StudySpec:
        if not self.compute and not self.evaluations:
            raise InputError("there is nothing to do: give `compute:` or `evaluations:`.")
        names = [entry.name for entry in self.evaluations]
        if len(set(names)) < len(names):
            raise InputError(f"evaluations share a name: {', '.join(sorted(names))}.")
        return self

    @property
    def analysed(self) -> bool:
        """Whether activations are analysed."""
        return bool({"probes", "information"} & set(self.compute))


def read_spec(document: Document) -> StudySpec:
    """Return what a document declares.

    Raises:
        InputError: With file, line and key of the first thing that is wrong, and the number of
            others.
    """
    return document.parse(StudySpec)


def with_engine(
    spec: StudySpec, name: str | None, workers: int | None, address: str | None
) -> StudySpec:
    """Return the study with what the command line says of the engine.

    Raises:
        InputError: Fewer than one worker, or an address without ``ray``.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: expected at least 1.")
    given = {"name": name, "workers": workers, "address": address}
    changed = {key: value for key, value in given.items() if value is not None}
    engine = spec.engine.model_copy(update=changed)
    if engine.address is not None and engine.name != "ray":
        raise InputError(f"An address belongs to the engine ray, not to {engine.name}.")
    return spec.model_copy(update={"engine": engine})

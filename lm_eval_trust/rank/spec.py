"""The file of a ranking: its keys, and what can be told to be wrong before a model is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    field_validator,
    model_validator,
)

from lm_eval_trust.benchmarks.registry import DATA_SOURCES, find_dimension
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.strict_model import StrictModel
from lm_eval_trust.core.yaml_file import Document, read_document
from lm_eval_trust.evaluate.harness import check_metric, check_tasks
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.hub_names import below, hub_name, pinned
from lm_eval_trust.steering.methods import METHODS
from lm_eval_trust.steering.spec import check_setting
from lm_eval_trust.sweep.grid import default_perplexity_task, parse_sweep_layers

ALL = "all"
Layers = tuple[int, ...]
Scalar = str | int | float | bool
Count = Annotated[int, Field(gt=0, strict=True)]
_NAME = re.compile(r"[\w.+-]{1,60}")
_TAKEN = ("prompt", "random", "unsteered")


def _known(kind: str, known: Any, names: Any) -> tuple[str, ...]:
    """Return names out of a registry, each once; all of them for ``all``."""
    if names == ALL:
        return tuple(known)
    given = tuple(names) if isinstance(names, (list, tuple)) else (names,)
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"{str(name)[:60]!r} is no name of a {kind}; write a list of names.")
        if name not in known:
            raise unknown_name(kind, str(name), known)
    if len(set(given)) < len(given):
        raise InputError(f"{list(given)} names one twice; name each once.")
    return given


def _layers(given: Any) -> tuple[Layers, ...]:
    parts = given if isinstance(given, (list, tuple)) else [given]
    if not parts or any(isinstance(p, bool) or not isinstance(p, (int, str)) for p in parts):
        raise InputError(f"{given!r} names no decoder blocks; write 10-20, or [12, 14+16].")
    found = parse_sweep_layers(",".join(map(str, parts)))
    if len(set(found)) < len(found):
        raise InputError(f"{given!r} names a block twice; name each once.")
    return found


def _name(name: str) -> str:
    """Return a name that can be part of a file's, and that no control arm has."""
    if not _NAME.fullmatch(name):
        raise InputError(f"the name {name[:40]!r} is to have letters, digits and . _ + - only")
    if name in _TAKEN:
        raise InputError(f"the name {name!r} is that of a control; choose another")
    return name


def _costs(given: tuple[float, ...]) -> tuple[float, ...]:
    if not given or not all(math.isfinite(cost) and cost > 0 for cost in given):
        raise InputError("expected nats per token above 0, such as [0.05, 0.1, 0.2]")
    if len(set(given)) < len(given):
        raise InputError("a cost is named twice; name each once")
    return tuple(sorted(given))


def _random(given: int) -> int:
    if given in (1, 2):
        raise InputError("a spread needs at least 3 random directions; 0 leaves them out")
    return given


Name = Annotated[str, AfterValidator(_name)]


class TextSpec(StrictModel):
    """Held-out text on which KL and perplexity are measured.

    Attributes:
        task: A task whose passages are read; by default LAMBADA, or the embedded text.
        passages: Number of passages of its validation part.
        tokens: Most tokens of a passage; the first half is the prompt.
    """

    task: str | None = None
    passages: Count = 32
    tokens: Annotated[int, Field(ge=4, strict=True)] = 64


class ControlsSpec(StrictModel):
    """What runs along with the methods, at the same cost.

    Attributes:
        random: Number of random directions of each action.
        shuffled: Number of vectors of each method that are built again from permuted labels.
        sign: Whether each method runs with −α as well.
    """

    random: Annotated[int, Field(ge=0, strict=True), AfterValidator(_random)] = 8
    shuffled: Annotated[int, Field(ge=0, strict=True)] = 1
    sign: Annotated[bool, Field(strict=True)] = True


class DimensionSpec(StrictModel):
    """One panel of the ranking.

    Attributes:
        dimension: Dimension or benchmark whose statements the methods use.
        data_source: Source of the statements.
        tasks: Tasks to improve, by the mean of the metric.
        metric: Metric of all the tasks; higher must be better.
        prompt: Text of the prompt that the methods are compared with; ``true``, the default, for
            those of the tasks' benchmarks, ``false`` for none.
        vectors: Name → vector file, or name on the Hub, to rank along with the methods.
        limit: Most items of each task, in each part; by default the ranking's.
    """

    dimension: str | None = None
    data_source: str = "official"
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: str = "trust_score"
    prompt: Annotated[bool, Field(strict=True)] | str = True
    vectors: dict[Name, str] = Field(default_factory=dict)
    limit: Count | None = None

    @field_validator("dimension")
    @classmethod
    def _dimension(cls, name: str) -> str:
        find_dimension(name)
        return name

    @field_validator("data_source")
    @classmethod
    def _source(cls, name: str) -> str:
        if name not in DATA_SOURCES:
            raise unknown_name("data source", name, DATA_SOURCES)
        return name

    @field_validator("prompt")
    @classmethod
    def _prompt(cls, text: bool | str) -> bool | str:
        if isinstance(text, str) and not text.strip():
            raise InputError("the prompt is empty; give a text, or leave the key out.")
        return text


class RankSpec(StrictModel):
    """The whole file.

    Attributes:
        model: ``amber``, ``lora_amber`` or ``finetuned_amber``.
        model_args: Its arguments, without steering.
        engine: ``transformers``, or ``vllm`` with all strengths and methods in
            one stream of requests; the arguments are then those of ``steered_vllm``.
        source: ``MODEL[@REVISION]`` that vectors are built from.
        dimensions: Name → panel.
        methods: Ways to find a direction, or ``all`` that are registered.
        actions: What is done with the directions, or ``all``.
        layers: Decoder blocks to choose from: ``10-20``, or a list such as ``[12, 14+16]``.
        positions: Which tokens are steered.
        scale: What α is a multiple of.
        costs: KL per token at which the methods are compared, in nats.
        tolerance: How far KL may be from a cost, as a share of it.
        alpha_limit: Largest strength to try, for actions without their own limit.
        text: Text on which the cost is measured.
        controls: What runs along with the methods.
        limit: Most items of each task, in each part.
        metadata: Settings of the tasks.
        batch_size: Prompts per batch; shared passes take more if there is room.
        device: Torch device; by default CUDA if there is one.
    """

    model: Literal["amber", "lora_amber", "finetuned_amber"] = "amber"
    model_args: dict[str, Scalar] = Field(default_factory=dict)
    engine: Literal["transformers", "vllm"] = "transformers"
    source: str | None = None
    dimensions: Annotated[dict[Name, DimensionSpec], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], BeforeValidator(partial(_known, METHODS.kind, METHODS))] = (
        Field(ALL, validate_default=True)
    )
    actions: Annotated[tuple[str, ...], BeforeValidator(partial(_known, ACTIONS.kind, ACTIONS))] = (
        "add",
    )
    layers: Annotated[tuple[Layers, ...], BeforeValidator(_layers)]
    positions: Annotated[str, BeforeValidator(partial(check_setting, "positions"))] = "generated"
    scale: Annotated[str, BeforeValidator(partial(check_setting, "scale"))] = "relative"
    costs: Annotated[tuple[float, ...], AfterValidator(_costs)] = (0.05, 0.1, 0.2)
    tolerance: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    alpha_limit: PositiveFloat = 4.0
    text: TextSpec = TextSpec()
    controls: ControlsSpec = ControlsSpec()
    limit: Count | None = None
    metadata: dict[str, Scalar] = Field(default_factory=dict)
    batch_size: Count = 8
    device: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> RankSpec:
        for name, panel in self.dimensions.items():
            if self.methods and panel.dimension is None and not panel.vectors:
                raise InputError(
                    f"dimensions.{name} names neither a dimension to build vectors for nor vectors."
                )
            clash = {*panel.vectors} & {*self.methods}
            if clash:
                raise InputError(
                    f"dimensions.{name}.vectors: {min(clash)} is the name of a method too."
                )
            if not panel.vectors and not self.methods:
                raise InputError(f"dimensions.{name}: there is no method and no vector to rank.")
            if self.methods and panel.dimension is not None and self.source is None:
                raise InputError(
                    "vectors have to be built: name the model they are built from by "
                    "source: MODEL[@REVISION]."
                )
        if not self.actions:
            raise InputError("actions is empty; name one, or leave the key out.")
        return self

    @property
    def takes_all(self) -> bool:
        """Whether all registered methods are asked for, so some may be unable to take part."""
        return set(self.methods) == set(METHODS)

    @property
    def text_task(self) -> str:
        """The task whose text measures the cost."""
        every = tuple(task for panel in self.dimensions.values() for task in panel.tasks)
        return self.text.task or default_perplexity_task(every)

    @property
    def every_layer(self) -> Layers:
        """All blocks that a vector needs, ascending."""
        return tuple(sorted({layer for layers in self.layers for layer in layers}))

    def limit_of(self, panel: DimensionSpec) -> int | None:
        """Return the largest number of items of each task of a panel."""
        return panel.limit or self.limit


def read_rank_file(path: Path) -> RankSpec:
    """Read a ranking's file; paths of vectors are relative to it.

    Raises:
        InputError: It cannot be read, or a key, name or value is wrong; file, line and key are
            named.
    """
    document = read_document(path, "ranking")
    spec = document.parse(RankSpec)
    for name, panel in spec.dimensions.items():
        with document.at("dimensions", name, "tasks"):
            check_tasks(panel.tasks)
            for task in panel.tasks:
                check_metric(task, panel.metric)
    with document.at("text"):
        check_tasks([spec.text_task])
    return spec.model_copy(update={"dimensions": _with_paths(document, spec.dimensions)})


def _with_paths(
    document: Document, panels: Mapping[str, DimensionSpec]
) -> dict[str, DimensionSpec]:
    found = {}
    for name, panel in panels.items():
        paths = {key: below(document.path.parent, file) for key, file in panel.vectors.items()}
        for key, file in paths.items():
            with document.at("dimensions", name, "vectors", key):
                if not Path(pinned(file) if hub_name(file) else file).is_file():
                    raise InputError(f"there is no vector file {file}.")
        found[name] = panel.model_copy(update={"vectors": paths})
    return found

"""A steering as users ask for it: which vector, at which layers, how strongly.

The same settings come as model arguments (``vector=…,layer=15,alpha=2``), as an entry of a steering
file (``steering=FILE.yaml``), from the command line, and from the grids of sweeps and studies. They
are declared and checked here, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lm_eval_trust.benchmarks.partition import SPLITS
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.yaml_file import read_document
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.conditions import When, check_order
from lm_eval_trust.steering.hub_names import below, hub_name, label, pinned
from lm_eval_trust.steering.methods import METHODS

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages read the names below.
    from lm_eval_trust.steering.plan import SteeringPlan
    from lm_eval_trust.steering.vectors import SteeringVector

#: The paper's choice for Amber: a checkpoint halfway through pre-training (section 3).
DEFAULT_SOURCE = "LLM360/Amber@ckpt_179"
#: Middle of Amber's 32 blocks.
DEFAULT_LAYER = 16
#: Which tokens are steered: from the last prompt token on, all, or the last prompt token alone.
POSITIONS = ("generated", "all", "last_prompt")
#: What α multiplies: see :meth:`lm_eval_trust.steering.vectors.LayerVector.scaled`.
SCALES = ("projection_std", "relative", "unit", "none")

#: Settings that say how a vector is built; a vector file has them behind it.
_BUILDING = ("source", "method", "data_source", "split", "split_seed")
_APPLYING = ("alpha", "positions", "action", "scale")
#: Returns a context that adds file, line and key to the errors inside, given the key's path.
_Place = Callable[..., AbstractContextManager[None]]


def _nowhere(*key: str | int) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class SteeringSpec:
    """One vector and how to apply it.

    Attributes:
        vector: Vector file, or a name on the Hub, ``owner/name[@revision][:file]``. Give this or
            ``dimension``.
        dimension: Dimension or benchmark whose vector is built from ``source`` and cached.
        source: ``MODEL[@REVISION]`` to build the vector from.
        layer: Decoder block, counted from 0; several as ``12+14+16`` or a list.
        alpha: Strength; 0 is the unsteered model.
        positions: ``generated``, ``all`` or ``last_prompt``.
        action: ``add``, ``clamp``, ``ablate``, ``rotate``, ``erase``, or one that another package
            adds.
        scale: ``projection_std``, ``relative``, ``unit`` or ``none``.
        target: Projection that ``clamp`` sets; default: the trustworthy side's mean.
        when: Which rows are steered: a :class:`lm_eval_trust.steering.conditions.When`, or a
            mapping with ``vector``, ``threshold`` and optionally ``layer`` and ``above``.
        method: How a vector is built: ``mass_mean``, ``pca``, ``logistic``, ``leace``, or one that
            another package adds.
        chat_template: To build from chats: what the user says before a statement that answers no
            question.
        data_source: ``official`` or ``tracingllm``, for building.
        split: ``grouped`` or ``random``, for building.
        split_seed: Seed of the partition, for building.

    Raises:
        InputError: A value of the wrong type, not finite or unknown, or values that are not
            possible together.
    """

    vector: str | None = None
    dimension: str | None = None
    source: str = DEFAULT_SOURCE
    layer: int | str | Iterable[int] = DEFAULT_LAYER
    alpha: float = 1.0
    positions: str = "generated"
    action: str = "add"
    scale: str = "projection_std"
    target: float | None = None
    when: When | Mapping[str, Any] | None = None
    method: str = "mass_mean"
    chat_template: str | None = None
    data_source: str = "official"
    split: str = "grouped"
    split_seed: int = 0

    def __post_init__(self) -> None:
        for name in STEERING_KEYS:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            object.__setattr__(self, name, check_setting(name, value))
        if (self.vector is None) == (self.dimension is None):
            raise InputError(
                f"A steering names either vector=FILE or dimension=NAME; "
                f"got vector={self.vector!r} and dimension={self.dimension!r}."
            )
        if self.vector is not None and self.chat_template is not None:
            raise InputError("chat_template is for building: pass dimension=NAME, not vector=FILE.")
        if self.target is not None and not ACTIONS[self.action].needs_target:
            raise InputError(
                f"target={self.target} means nothing to action={self.action}, which aims at no "
                f"projection."
            )
        if self.condition is not None:
            check_order(self.condition.layer, self.layers, self.positions)
        needed, found = ACTIONS[self.action].parts, METHODS[self.method].parts
        if self.dimension is not None and not set(needed) <= set(found):
            giving = [name for name, each in METHODS.items() if set(needed) <= set(each.parts)]
            raise InputError(
                f"action={self.action} needs {' and '.join(needed)}, which method={self.method} "
                f"does not find; {f'pass method={giving[0]}' if giving else 'pass a vector file'}."
            )

    @classmethod
    def parse(
        cls,
        settings: Mapping[str, Any],
        *,
        where: str = "the steering",
        folder: Path | None = None,
        at: _Place = _nowhere,
    ) -> SteeringSpec:
        """Return the steering that key-value pairs ask for.

        Args:
            settings: Model arguments, an entry of a YAML file, or options.
            where: What holds them, for messages.
            folder: What the path of a vector is relative to.
            at: Given a key, returns the context in which its errors are raised, such as
                ``partial(document.at, "steering", 0)``.

        Raises:
            InputError: An unknown key, a null, or what the class raises.
        """
        for key, value in settings.items():
            with at(key):
                if key not in STEERING_KEYS:
                    raise unknown_name(f"key in {where}", str(key), STEERING_KEYS)
                if value is None:
                    raise InputError(f"{key} has no value; give one, or leave the key out.")
                check_setting(key, value)
        if folder is not None:
            settings = _below(folder, settings)
        with at():
            return cls(**settings)

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder blocks, in the order given."""
        assert isinstance(self.layer, tuple)
        return self.layer

    @property
    def layer_text(self) -> str:
        """The layers as model arguments have them, e.g. ``15`` or ``14+16``."""
        return "+".join(map(str, self.layers))

    def at(self, alpha: float) -> SteeringSpec:
        """Return the same steering at another strength."""
        return replace(self, alpha=alpha)

    def plan(
        self,
        vector: SteeringVector | None = None,
        *,
        dtype: str | None = None,
        device: str | None = None,
    ) -> SteeringPlan:
        """Return the plan that applies the vector.

        Args:
            vector: The vector where it is available; by default it is read or built.
            dtype: In which the source model runs where a vector has to be built.
            device: Where it runs.

        Raises:
            InputError: The vector cannot be read or built, or lacks a layer.
        """
        from lm_eval_trust.steering.plan import SteeringPlan

        return SteeringPlan.from_vector(
            vector or self.load(dtype=dtype, device=device),
            self.layers,
            alpha=self.alpha,
            action=self.action,
            positions=self.positions,
            scale=self.scale,
            target=self.target,
            when=None if self.condition is None else self.condition.read(min(self.layers)),
        )

    @property
    def condition(self) -> When | None:
        """The condition, if there is one."""
        assert self.when is None or isinstance(self.when, When)
        return self.when

    def load(self, *, dtype: str | None = None, device: str | None = None) -> SteeringVector:
        """Read the vector, or build it.

        Args:
            dtype: See :meth:`plan`.
            device: The same.

        Raises:
            InputError: It cannot be read or built.
        """
        if self.vector is not None:
            from lm_eval_trust.steering.vectors import load_vector

            return load_vector(self.vector)
        from lm_eval_trust.steering.build import cached_vector

        assert self.dimension is not None
        return cached_vector(
            dimension=self.dimension,
            source=self.source,
            layers=self.layers,
            method=self.method,
            data_source=self.data_source,
            split=self.split,
            split_seed=self.split_seed,
            chat_template=self.chat_template,
            dtype=dtype,
            device=device,
        )

    def describe(self) -> str:
        """Return a readable name, which can be a folder's."""
        what = label(self.vector) if self.vector is not None else self.dimension
        applied = f"layer{self.layer_text}-{self.positions}-{self.action}-{self.scale}"
        target = "" if self.target is None else f"-target{self.target:g}"
        when = "" if self.condition is None else f"-{self.condition.describe()}"
        return f"{what}-{applied}{target}{when}-alpha{self.alpha:g}"

    def recipe(self) -> dict[str, Any]:
        """Return the settings that matter as JSON-like values, as a steering file has them."""
        built = {name: getattr(self, name) for name in ("dimension", *_BUILDING)}
        what = built if self.vector is None else {"vector": pinned(self.vector)}
        layer = self.layers[0] if len(self.layers) == 1 else list(self.layers)
        applied = {name: getattr(self, name) for name in _APPLYING}
        further = ("target", "chat_template")
        given = {name: getattr(self, name) for name in further if getattr(self, name) is not None}
        when = {} if self.condition is None else {"when": self.condition.recipe()}
        return {**what, "layer": layer, **applied, **given, **when}


STEERING_KEYS = tuple(field.name for field in fields(SteeringSpec))
_OPTIONAL = tuple(field.name for field in fields(SteeringSpec) if field.default is None)


def check_setting(name: str, value: Any) -> Any:
    """Return the value of one setting as :class:`SteeringSpec` keeps it.

    Args:
        name: One of :data:`STEERING_KEYS`.
        value: What the user gave.

    Raises:
        InputError: It has the wrong type, is not finite or not known.
    """
    return _CHECKS[name](name, value)


def choices_for(name: str) -> str:
    """Return what a setting may be, for help pages: ``add (default), clamp, ablate``."""
    default = next(field.default for field in fields(SteeringSpec) if field.name == name)
    return ", ".join(f"{c} (default)" if c == default else c for c in _CHOICES[name][1])


def parse_entries(entries: Any, *, folder: Path, at: _Place = _nowhere) -> list[SteeringSpec]:
    """Return the steerings of a list such as a YAML file contains under ``steering``.

    Args:
        entries: The list.
        folder: What paths of vectors are relative to.
        at: See :meth:`SteeringSpec.parse`; given ``steering``, an entry's number and its key.

    Raises:
        InputError: It is not a list of mappings, is empty, or an entry is wrong.
    """
    with at("steering"):
        if not isinstance(entries, (list, tuple)) or not all(
            isinstance(entry, Mapping) for entry in entries
        ):
            raise InputError(
                "there is no list of entries under the key 'steering'; expected for instance "
                "steering: [{vector: v.safetensors, layer: 15, alpha: 2}]."
            )
        if not entries:
            raise InputError("the list 'steering' is empty; give an entry, or leave it out.")
    return [
        SteeringSpec.parse(
            entry, where=f"entry {n + 1} of steering", folder=folder, at=partial(at, "steering", n)
        )
        for n, entry in enumerate(entries)
    ]


def read_steering_file(path: str | Path) -> list[SteeringSpec]:
    """Read a steering file: a list of steerings under the key ``steering``.

    Paths of vectors are relative to the file.

    Raises:
        InputError: The file is missing, not YAML, empty, or holds another key; or an entry is
            wrong. File, line and key are named.
    """
    document = read_document(Path(path), "steering file")
    found = parse_entries(
        document.content.get("steering"), folder=document.path.parent, at=document.at
    )
    for key in document.content:
        if key != "steering":
            with document.at(key):
                raise unknown_name("key beside 'steering'", str(key), ["steering"])
    return found


def steering_yaml(specs: Iterable[SteeringSpec], folder: Path, *, comment: str = "") -> str:
    """Return the steering file of these steerings, to be written to ``folder``.

    Args:
        specs: The steerings.
        folder: Where it is written; vectors below it are named from there.
        comment: Lines for its head.
    """
    base = folder.resolve()
    entries = []
    for spec in specs:
        entry = spec.recipe()
        for holder in (entry, entry.get("when", {})):
            if "vector" in holder and not hub_name(holder["vector"]):
                file = Path(holder["vector"]).resolve()
                holder["vector"] = str(file.relative_to(base) if base in file.parents else file)
        entries.append(entry)
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + str(yaml.safe_dump({"steering": entries}, sort_keys=False))


def combined_plan(
    specs: Iterable[SteeringSpec], *, dtype: str | None = None, device: str | None = None
) -> SteeringPlan:
    """Return the plan that does all of these; empty for none.

    Raises:
        InputError: See :meth:`SteeringSpec.plan`, or two of them contradict each other.
    """
    from lm_eval_trust.steering.plan import SteeringPlan

    plan = SteeringPlan()
    for spec in specs:
        plan += spec.plan(dtype=dtype, device=device)
    return plan


def _below(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose files are relative to a folder."""
    found = dict(settings)
    if "vector" in found:
        found["vector"] = below(folder, found["vector"])
    if "when" in found:
        found["when"] = When.parse(found["when"]).below(folder)
    return found


def _file(name: str, value: Any) -> str:
    if not isinstance(value, (str, Path)) or not str(value):
        raise InputError(f"{name}={value!r} is not the name of a file.")
    return str(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}={value!r} is not a text.")
    return value


def _dimension(name: str, value: Any) -> str:
    find_dimension(_text(name, value))
    return str(value)


def _layers(name: str, value: Any) -> tuple[int, ...]:
    parts = list(value) if isinstance(value, (list, tuple)) else [value]
    if not parts or any(isinstance(p, bool) or not isinstance(p, (int, str)) for p in parts):
        raise InputError(
            f"{name}={value!r} names no decoder block; write 16, 12+14 or [12, 14] with 0-based "
            f"numbers."
        )
    return tuple(parse_layers("+".join(map(str, parts))))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{name}={value!r} is not a number.")
    return float(value)


def _seed(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{name}={value!r} is not a whole number from 0.")
    return value


#: Setting → what its values are called, and which there are.
_CHOICES: dict[str, tuple[str, Iterable[str]]] = {
    "positions": ("kind of positions", POSITIONS),
    "action": (ACTIONS.kind, ACTIONS),
    "scale": ("scale", SCALES),
    "method": (METHODS.kind, METHODS),
    "split": ("split", SPLITS),
}


def _choice(name: str, value: Any) -> str:
    kind, known = _CHOICES[name]
    if not isinstance(value, str) or value not in known:
        raise unknown_name(kind, str(value), known)
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "vector": _file,
    "dimension": _dimension,
    "source": _text,
    "chat_template": _text,
    "layer": _layers,
    "alpha": _number,
    "target": _number,
    "data_source": _text,
    "split_seed": _seed,
    "when": lambda name, value: When.parse(value),
    **dict.fromkeys(_CHOICES, _choice),
}

"""Steering vectors and plans: build, load, combine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lm_eval_trust.benchmarks.benchmark import OFFICIAL
from lm_eval_trust.benchmarks.load import find_statements
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.mini.world import is_mini
from lm_eval_trust.models.decoder_blocks import text_blocks
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.steering.build import build_vector as _build_vector
from lm_eval_trust.steering.head_vectors import build_head_vector
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import (
    STEERING_KEYS,
    SteeringSpec,
    combined_plan,
    read_steering_file,
)
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

if TYPE_CHECKING:
    from lm_eval_trust.api.models import Model

__all__ = ["VectorLike", "build_vector", "load_vector", "steering_plan"]

#: What can steer: a vector, the name of its file or of a steering file, or a plan.
VectorLike: TypeAlias = SteeringVector | SteeringPlan | str | Path
#: How a vector is applied; its other settings say how it is built.
_APPLYING = ("layer", "alpha", "positions", "action", "scale", "target", "when")
#: Endings of steering files.
STEERING_FILES = (".yaml", ".yml")


def build_vector(
    model: Model | str | Path,
    dimension: str,
    *,
    layers: int | str | Sequence[int] | None = None,
    method: str = "mass_mean",
    data_source: str | None = None,
    data_seed: int = 0,
    split: str = "grouped",
    split_seed: int = 0,
    part: str = "train",
    chat_template: str | None = None,
    heads: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> SteeringVector:
    """Build a steering vector from a model and labelled statements.

    Args:
        model: A loaded model, or a name for :func:`~lm_eval_trust.api.models.load`.
        dimension: A dimension or its benchmark: ``reliability`` or ``truthfulqa``.
        layers: 0-based decoder blocks: ``15``, ``[14, 15]`` or ``"10-20"``; by default all.
        method: ``mass_mean``, ``pca``, ``logistic``, ``leace``, …; see
            :data:`lm_eval_trust.steering.methods.METHODS`.
        data_source: ``official``, ``tracingllm``, ``mini``, or a CSV or JSONL file with the columns
            ``statement`` and ``label``; by default ``mini`` for a model of the embedded world,
            otherwise ``official``.
        data_seed: Seed of random choices in the data.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        part: ``train``, or ``development`` for training and validation part together.
        chat_template: Write statements as chats: what the user says before a statement that answers
            no question.
        heads: Steer this many attention heads instead of the blocks' outputs, those whose probes
            are most accurate on the validation part.
        dtype: For a name: in which the model runs.
        device: For a name: where it runs.
        progress: Show a progress bar.

    Returns:
        The vector, with a record of what it was built from; ``vector.save(path)`` writes it.

    Raises:
        InputError: A name is unknown, a layer is out of range, the model is steered, or settings do
            not go together.
        MissingDataError: A file of the data is missing.
        ExternalError: The Hub cannot be reached.
    """
    if heads is not None and (part != "train" or chat_template is not None):
        option = "chat_template" if chat_template is not None else "part"
        raise InputError(
            f"{option} does not go with heads: heads are read from statements as they are, and "
            f"chosen on the validation part."
        )
    source = data_source or default_data_source(model)
    chosen = None if layers is None else layer_numbers(layers)
    statements = find_statements(dimension, data_source=source, data_seed=data_seed)
    if isinstance(model, (str, Path)):
        module, tokenizer, identity = load_source(str(model), dtype=dtype, device=device)
    else:
        model.unsteered("Building a vector")
        module, tokenizer, identity = model.module, model.tokenizer, model.identity
    common: dict[str, Any] = {
        "layers": text_blocks(module) if chosen is None else chosen,
        "identity": identity,
        "method": method,
        "split": split,
        "split_seed": split_seed,
        "progress": progress,
    }
    if heads is not None:
        return build_head_vector(module, tokenizer, statements, heads=heads, **common)
    return _build_vector(
        module, tokenizer, statements, part=part, chat_template=chat_template, **common
    )


def steering_plan(
    vector: VectorLike,
    *,
    layer: int | str | Sequence[int] | None = None,
    alpha: float | None = None,
    **settings: Any,
) -> SteeringPlan:
    """Return a plan for :meth:`~lm_eval_trust.api.models.Model.steer`; plans can be added.

    Args:
        vector: A vector, the name of its file, a steering file (``.yaml``), or a plan. The last two
            say everything, and take no further argument.
        layer: 0-based decoder blocks; by default the vector's only one.
        alpha: Strength; 1 by default.
        **settings: ``positions``, ``action``, ``scale``, ``target`` and ``when``; see
            :class:`lm_eval_trust.steering.spec.SteeringSpec`.

    Raises:
        InputError: A setting is unknown or wrong, the vector lacks the layer, or it has several
            and none was chosen.
    """
    given = {"layer": layer, "alpha": alpha, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    applied(given)
    whole = isinstance(vector, SteeringPlan) or (
        isinstance(vector, (str, Path)) and Path(vector).suffix in STEERING_FILES
    )
    if whole and given:
        raise InputError(
            f"{', '.join(given)}: a steering file or plan says everything already; leave it out."
        )
    if isinstance(vector, SteeringPlan):
        return vector
    if whole:
        return combined_plan(read_steering_file(str(vector)))
    if not isinstance(vector, (SteeringVector, str, Path)):
        raise InputError(
            f"{vector!r:.80} is not a steering vector; give one that build_vector made, a file, or "
            f"a plan."
        )
    found = vector if isinstance(vector, SteeringVector) else load_vector(vector)
    given["layer"] = layers_of(found, layer)
    spec = SteeringSpec.parse({"vector": found.name, **given}, where="the steering")
    return spec.plan(found)


def default_data_source(model: Model | str | Path) -> str:
    """Return where statements come from: the embedded world for its models."""
    spec = str(model) if isinstance(model, (str, Path)) else model.arguments.get("pretrained")
    return MINI if is_mini(spec) else OFFICIAL


def applied(settings: Mapping[str, Any]) -> None:
    """Raise unless settings say how a vector is applied.

    Raises:
        InputError: A name is unknown, or says how a vector is built.
    """
    for name in settings:
        if name not in _APPLYING:
            if name in STEERING_KEYS:
                raise InputError(f"{name} says how a vector is built; pass it to build_vector.")
            raise unknown_name("steering setting", name, _APPLYING)


def layer_numbers(layers: int | str | Sequence[int]) -> list[int]:
    """Return layers as numbers.

    Raises:
        InputError: They are neither numbers nor a text such as ``10-20``.
    """
    if isinstance(layers, str):
        return parse_layers(layers)
    parts = list(layers) if isinstance(layers, Iterable) else [layers]
    # Whole numbers of NumPy are Integral, and so is bool.
    if not parts or any(isinstance(p, bool) or not isinstance(p, Integral) or p < 0 for p in parts):
        raise InputError(
            f"Layers {layers!r} are no numbers of decoder blocks, which count from 0; write 15, "
            f'[14, 15] or "10-20".'
        )
    return [int(part) for part in parts]


def layers_of(vector: SteeringVector, chosen: int | str | Sequence[int] | None) -> list[int]:
    """Return the layers that are chosen, by default the vector's only one, or all of heads.

    Raises:
        InputError: They are no layers, or the vector has several and none is chosen.
    """
    if chosen is not None:
        return layer_numbers(chosen)
    layers = sorted(vector.layers)
    if vector.site == "heads" or len(layers) == 1:
        return layers
    have = ", ".join(map(str, layers))
    raise InputError(f"The {vector.name} has layers {have}; choose by layer=… which to steer.")

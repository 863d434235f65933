"""Vectors built again from statements whose labels mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from lm_eval_trust.analysis.nulls import permuted_labels
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import find_source, load_pinned
from lm_eval_trust.steering.build import CHAT_SETTING, layer_vector, part_of, read_statements
from lm_eval_trust.steering.reft import lessons
from lm_eval_trust.steering.vectors import SteeringVector

#: Settings of a vector's provenance that :func:`lm_eval_trust.benchmarks.load_statements` takes.
_DATA_SETTINGS = ("data_seed", "perturbation_rate", "balanced")


def shuffled_vector(
    vector: SteeringVector,
    source: str,
    *,
    layers: Sequence[int],
    seed: int,
    device: str | None = None,
) -> SteeringVector:
    """Build a vector again, from the same statements with permuted labels.

    What is left of the vector is what its method makes of activations whose labels mean nothing.

    Args:
        vector: Built by :func:`build_vector`.
        source: ``MODEL[@REVISION]`` that it was built from.
        layers: 0-based decoder blocks.
        seed: Seed of the permutation.
        device: Where the source model runs.

    Raises:
        InputError: As :func:`shuffled_statements`.
        ExternalError: The source model cannot be fetched.
    """
    used = shuffled_statements(vector, source, seed=seed)
    made, found = vector.provenance, find_source(source)
    assert made is not None
    model, tokenizer = load_pinned(found, dtype=made.settings["dtype"], device=device)
    chat = made.settings.get(CHAT_SETTING)
    activations = read_statements(
        model, tokenizer, used, layers=layers, identity=found.identity, chat_template=chat
    )
    lesson = lessons(model, tokenizer, used, chat_template=chat)
    directions = {
        layer: layer_vector(
            made.method, activations[:, at], used, partial(lesson, layer, activations[:, at])
        )
        for at, layer in enumerate(layers)
    }
    return SteeringVector(directions, made, name=f"{vector.name} with shuffled labels")


def shuffled_statements(vector: SteeringVector, source: str, *, seed: int) -> Statements:
    """Return the statements that a vector was built from, with permuted labels.

    Labels change places as :func:`lm_eval_trust.analysis.nulls.permuted_labels` allows.

    Args:
        vector: Built by :func:`build_vector`.
        source: ``MODEL[@REVISION]`` that it was built from.
        seed: Seed of the permutation.

    Raises:
        InputError: The vector does not say from which benchmark's statements it was built, or
            those or the model are others now.
        ExternalError: The source model's revision cannot be looked up.
    """
    if vector.site != "block":
        raise InputError(
            f"{vector.name} steers heads that were chosen by their labels, which shuffled ones "
            f"would choose anew; take the controls random and sign."
        )
    made = vector.provenance
    if made is None or made.data_source not in DATA_SOURCES:
        raise InputError(
            f"{vector.name} does not say from which benchmark's statements it was built, so their "
            f"labels cannot be shuffled."
        )
    if find_source(source).identity.revision != made.revision:
        raise InputError(
            f"{vector.name} was built from {made.model}@{made.revision}, which {source} is not; "
            f"name the model that it was built from."
        )
    settings = {k: made.settings[k] for k in _DATA_SETTINGS if k in made.settings}
    statements = load_statements(made.dimension, data_source=made.data_source, **settings)
    used = part_of(statements, made.split, made.split_seed, made.part)
    if tuple(sorted({item.id for item in used.items})) != made.items:
        raise InputError(
            f"The statements of {made.dimension} ({made.data_source}) are not those that "
            f"{vector.name} was built from; build it again."
        )
    labels = permuted_labels(used.labels, used.groups, np.random.default_rng(seed))
    return used.relabelled(labels.tolist())

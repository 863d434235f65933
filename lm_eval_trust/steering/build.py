"""Build steering vectors: labelled statements → activations of a model → directions.

Vectors that are asked for by dimension are built on first use and found again afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lm_eval_trust import __version__
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.core.storage import build_once, cache_dir
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.activations import compute_dtype
from lm_eval_trust.models.chat import encode_turns
from lm_eval_trust.models.sources import ModelIdentity, find_source, load_pinned, resolve_dtype
from lm_eval_trust.steering.evidence import (
    Evidence,
    HeldOut,
    doubts,
    evidence_of,
    from_record,
    to_record,
)
from lm_eval_trust.steering.methods import METHODS, Floats, Trained, check_labels, find_direction
from lm_eval_trust.steering.reft import Lesson, lessons
from lm_eval_trust.steering.vector_files import FORMAT, to_bytes
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

logger = logging.getLogger(__name__)

#: The validation part stays untouched, for choosing layers and strengths.
_CACHED_PART = "train"
#: Parts that a vector may be built from; the test half is what it is evaluated on.
BUILDING_PARTS = ("train", "development")
#: Setting of a provenance: what the user said before statements in a chat's turns.
CHAT_SETTING = "chat_template"


def build_vector(
    model: nn.Module,
    tokenizer: Any,
    statements: Statements,
    *,
    layers: Sequence[int],
    identity: ModelIdentity,
    method: str = "mass_mean",
    split: str = "grouped",
    split_seed: int = 0,
    part: str = "train",
    chat_template: str | None = None,
    progress: bool = True,
) -> SteeringVector:
    """Build the directions of a dimension at several layers.

    Only the chosen part enters, in everything: the direction, the standard deviation of the
    projections on it and the trustworthy side's mean projection, all computed in float64.
    Whatever the labels' orientation, the direction points to the trustworthy side. The validation
    part, where it is another one, is read for the evidence that the provenance keeps
    (:mod:`lm_eval_trust.steering.evidence`), and changes nothing else.

    Args:
        model: Source model, in evaluation mode.
        tokenizer: Its tokenizer.
        statements: All statements of the dimension; the partition is made here.
        layers: 0-based decoder blocks.
        identity: Which model it is.
        method: Name of a method, see :data:`lm_eval_trust.steering.methods.METHODS`.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        part: ``train``, which leaves the validation part for selecting layers and strengths, or
            ``development`` for both.
        chat_template: What the user says before a statement that answers no question. Statements
            are then written by the tokenizer's chat template: the question as the user's turn, the
            answer or the whole statement as the assistant's, read at its own last token and not at
            the template's. By default they are read as they are.
        progress: Show a progress bar on standard error.

    Returns:
        The vector, with its provenance.

    Raises:
        InputError: Unknown method, split or part, a layer out of range, a statement too long, a
            part that lacks a label, or a chat template that is missing or cannot be used.
    """
    provenance = provenance_of(
        statements,
        identity=identity,
        dtype=str(compute_dtype(model)).removeprefix("torch."),
        method=method,
        split=split,
        split_seed=split_seed,
        part=part,
        chat_template=chat_template,
    )
    used = part_of(statements, split, split_seed, part)
    read = partial(
        read_statements,
        model,
        tokenizer,
        layers=layers,
        identity=identity,
        chat_template=chat_template,
        progress=progress,
    )
    activations = read(used)
    lesson = lessons(model, tokenizer, used, chat_template=chat_template, progress=progress)
    directions = {
        layer: layer_vector(
            method, activations[:, at], used, partial(lesson, layer, activations[:, at])
        )
        for at, layer in enumerate(layers)
    }
    held_out = _held_out(statements, split, split_seed, part)
    beyond = read(held_out) if held_out is not None else None
    bar = progress_bar(layers, "Evidence", unit="layer", shown=progress)
    evidence = {
        layer: layer_evidence(
            directions[layer],
            activations[:, at],
            used,
            None if beyond is None else beyond[:, at],
            held_out,
        )
        for at, layer in enumerate(bar)
    }
    provenance = replace(provenance, evidence=to_record(evidence))
    return SteeringVector(directions, provenance, name=f"{statements.dimension.name} vector")


def read_statements(
    model: nn.Module,
    tokenizer: Any,
    statements: Statements,
    *,
    layers: Sequence[int],
    identity: ModelIdentity,
    chat_template: str | None = None,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Return activations at the statements' last tokens, kept on disk.

    See :func:`build_vector` for the arguments.

    Returns:
        Float32, shape (statements, layers, hidden).
    """
    ids = None
    if chat_template is not None:
        turns = [item.turns(chat_template) for item in statements.items]
        ids = encode_turns(model, tokenizer, turns)
    return load_or_extract(
        model,
        tokenizer,
        statements.texts,
        layers=layers,
        identity=identity,
        ids=ids,
        progress=progress,
    )


def layer_evidence(
    layer: LayerVector,
    activations: npt.NDArray[np.float32],
    used: Statements,
    beyond: npt.NDArray[np.float32] | None,
    held_out: Statements | None,
) -> Evidence:
    """Return what predicts that one layer's direction will steer.

    Args:
        layer: The direction.
        activations: Activations of the statements that it was built from, shape (statements,
            hidden).
        used: These statements.
        beyond: The same of the validation part; ``None`` if the direction was built from it.
        held_out: The validation part.
    """
    validation = None
    if beyond is not None and held_out is not None:
        trustworthy = held_out.labels == held_out.dimension.trustworthy_label
        validation = HeldOut(beyond, trustworthy.astype(np.int64), held_out.groups)
    return evidence_of(layer.direction.numpy(), activations, used.labels, used.groups, validation)


def _held_out(statements: Statements, split: str, split_seed: int, part: str) -> Statements | None:
    """Return the validation part; ``None`` if it is built from, or empty."""
    positions = statements.partition(split=split, seed=split_seed).validation
    return None if part == "development" or not len(positions) else statements.select(positions)


def provenance_of(
    statements: Statements,
    *,
    identity: ModelIdentity,
    dtype: str,
    method: str,
    split: str,
    split_seed: int,
    part: str,
    chat_template: str | None = None,
) -> Provenance:
    """Return the provenance that :func:`build_vector` gives a vector, before it is built.

    Raises:
        InputError: Unknown method, split or part, or an empty turn of the user.
    """
    METHODS[method]  # An unknown one is refused before activations are computed.
    if chat_template is not None and not chat_template.strip():
        raise InputError("The user's turn of the chat template is empty; give it a text.")
    used = part_of(statements, split, split_seed, part)
    chat = {} if chat_template is None else {CHAT_SETTING: chat_template}
    return Provenance(
        model=identity.name,
        revision=identity.revision,
        dimension=statements.dimension.name,
        data_source=statements.data_source,
        split=split,
        split_seed=split_seed,
        part=part,
        method=method,
        items=tuple(sorted({item.id for item in used.items})),
        groups=tuple(sorted(set(used.groups))),
        settings=statements.settings | {"commit": identity.commit, "dtype": dtype} | chat,
        versions=_versions(),
    )


def cached_vector(
    *,
    dimension: str,
    source: str,
    layers: Sequence[int],
    method: str = "mass_mean",
    data_source: str = "official",
    split: str = "grouped",
    split_seed: int = 0,
    data_seed: int = 0,
    chat_template: str | None = None,
    dtype: str | None = "float32",
    device: str | None = None,
) -> SteeringVector:
    """Return the vector of a dimension from a source model, built now or before.

    The entry's key is made of everything that the vector depends on: the model's commit or
    content, dtype, the statements' ids, split, seeds, method and layers. The vector is built from
    the training part. Two processes that ask at once build once.

    Args:
        dimension: A dimension or benchmark, e.g. ``truthfulqa``.
        source: ``MODEL[@REVISION]``, see :func:`lm_eval_trust.models.sources.find_source`.
        layers: 0-based decoder blocks.
        method: Name of a method, see :data:`lm_eval_trust.steering.methods.METHODS`.
        data_source: ``official`` or ``tracingllm``.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        data_seed: Seed of the choice of statements.
        chat_template: See :func:`build_vector`.
        dtype: In which the source model runs; see
            :func:`lm_eval_trust.models.sources.load_source`.
        device: Where it runs.

    Raises:
        InputError: As :func:`build_vector`, or the model or the data are not available.
        ExternalError: The Hub cannot be reached, or the cache cannot be written.
    """
    chosen = sorted(layers)
    found = find_source(source)
    statements = load_statements(dimension, data_source=data_source, data_seed=data_seed)
    provenance = provenance_of(
        statements,
        identity=found.identity,
        dtype=resolve_dtype(dtype, device),
        method=method,
        split=split,
        split_seed=split_seed,
        part=_CACHED_PART,
        chat_template=chat_template,
    )
    key = fingerprint(
        {
            "provenance": provenance.fingerprint,
            "layers": chosen,
            "format": FORMAT,
            "holds": "state_norm",  # Earlier entries lack it.
        }
    )
    path = cache_dir() / "vectors" / f"{key}.safetensors"

    def build(temporary: Path) -> None:
        model, tokenizer = load_pinned(found, dtype=dtype, device=device)
        vector = build_vector(
            model,
            tokenizer,
            statements,
            layers=chosen,
            identity=found.identity,
            method=method,
            split=split,
            split_seed=split_seed,
            part=_CACHED_PART,
            chat_template=chat_template,
        )
        assert vector.provenance is not None
        for doubt in doubts(from_record(vector.provenance.evidence)):
            logger.warning("%s built from %s: %s", vector.name, source, doubt)
        temporary.write_bytes(to_bytes(vector))

    return build_once(path, build, read=load_vector)


def part_of(statements: Statements, split: str, split_seed: int, part: str) -> Statements:
    """Return the statements of the part that a vector is built from.

    Raises:
        InputError: No vector is built from that part, or it is empty.
    """
    if part not in BUILDING_PARTS:
        raise unknown_name("part to build from", part, BUILDING_PARTS)
    positions = statements.partition(split=split, seed=split_seed).part(part)
    if len(positions) == 0:
        raise InputError(
            f"The {part} part of {statements.dimension.name} is empty: {len(statements)} "
            f"statements are too few to divide."
        )
    return statements.select(positions)


def layer_vector(
    method: str,
    activations: npt.NDArray[np.float32],
    used: Statements,
    lesson: Callable[[], Lesson] | None = None,
) -> LayerVector:
    """Return the direction of one layer, to the trustworthy side, with what scales it.

    Args:
        method: See :func:`build_vector`.
        activations: Activations of the statements, shape (statements, hidden).
        used: The statements that it is built from.
        lesson: Makes what a method that is trained is trained on.

    Raises:
        InputError: The two labels' activations do not differ, or a label is missing.
    """
    precise = activations.astype(np.float64)
    direction, parts = _found(method, precise, used, lesson)
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise InputError(f"{method} finds no direction: the two labels' activations do not differ.")
    projections = precise @ (direction / length)
    return LayerVector(
        direction=torch.from_numpy(direction.astype(np.float32)),
        projection_std=float(projections.std()),
        target=float(projections[used.labels == used.dimension.trustworthy_label].mean()),
        state_norm=float(np.median(np.linalg.norm(precise, axis=1))),
        parts={name: torch.from_numpy(part) for name, part in parts.items()},
    )


def _found(
    method: str, activations: Floats, used: Statements, lesson: Callable[[], Lesson] | None
) -> Trained:
    """Return the direction to the trustworthy side, and what the method finds beside it."""
    found, labels, trustworthy = METHODS[method], used.labels, used.dimension.trustworthy_label
    if found.train is not None:
        if lesson is None:
            known = ", ".join(n for n, each in METHODS.items() if each.train is None)
            raise InputError(
                f"method={method} is trained at a block's output, and not for attention heads; "
                f"choose one of {known}."
            )
        check_labels(labels)
        return found.train(lesson())
    direction = find_direction(method, activations, labels, used.groups)
    oriented = (labels == trustworthy).astype(np.int64)
    parts = {n: find(activations, oriented) for n, find in found.parts.items() if find is not None}
    return (direction if trustworthy == 1 else -direction), parts


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "numpy")
    return {"lm_eval_trust": __version__} | {name: version(name) for name in names}

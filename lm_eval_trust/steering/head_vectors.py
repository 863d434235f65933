"""Directions of chosen attention heads, after inference-time intervention (Li et al. 2023).

A logistic probe is fitted to each head's output on the training part, and the heads whose probes
are most accurate on the validation part are steered: head h of layer l by α σ θ, where θ is a
direction of length 1 and σ the standard deviation of the building activations along it
(arXiv 2306.03341, eq. 3). The paper's best direction is the mass mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.activations import compute_dtype, extract_activations
from lm_eval_trust.models.attention_heads import number_of_heads
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.steering.build import layer_vector, provenance_of
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

#: Setting of a provenance: layer → heads that were chosen in it.
HEADS_SETTING = "heads"


@dataclass(frozen=True)
class Head:
    """One attention head.

    Attributes:
        layer: 0-based decoder block.
        number: 0-based head of it.
        accuracy: Accuracy of its probe on the validation part.
    """

    layer: int
    number: int
    accuracy: float


def build_head_vector(
    model: nn.Module,
    tokenizer: Any,
    statements: Statements,
    *,
    layers: Sequence[int],
    identity: ModelIdentity,
    heads: int,
    method: str = "mass_mean",
    split: str = "grouped",
    split_seed: int = 0,
    progress: bool = True,
) -> SteeringVector:
    """Build the directions of the heads that best separate a dimension's labels.

    Heads are chosen on the validation part, and their directions built from the training part.

    Args:
        model: Source model, in evaluation mode.
        tokenizer: Its tokenizer.
        statements: All statements of the dimension; the partition is made here.
        layers: 0-based decoder blocks whose heads are candidates.
        identity: Which model it is.
        heads: How many to choose over all layers.
        method: Name of a method, see :data:`lm_eval_trust.steering.methods.METHODS`.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        progress: Show a progress bar on standard error.

    Returns:
        A vector of site ``heads`` with the layers that hold a chosen head; ``scale`` ``none`` and
        ``projection_std`` both give σ θ. Its provenance names the heads.

    Raises:
        InputError: A number of heads that the layers do not have, an attention without a plain
            output projection, an unknown method or split, or a part that is empty or lacks a label.
    """
    candidates = len(layers) * number_of_heads(model)
    if not 1 <= heads <= candidates:
        raise InputError(
            f"There are {candidates} heads in {len(layers)} layers; choose 1 to {candidates} of "
            f"them, not {heads}."
        )
    provenance = provenance_of(
        statements,
        identity=identity,
        dtype=str(compute_dtype(model)).removeprefix("torch."),
        method=method,
        split=split,
        split_seed=split_seed,
        part="development",
    )
    partition = statements.partition(split=split, seed=split_seed)
    parts = [statements.select(partition.part(name)) for name in ("train", "validation")]
    for name, part in zip(("training", "validation"), parts, strict=True):
        if len(set(part.labels.tolist())) < 2:
            raise InputError(
                f"The {name} part of {statements.dimension.name} lacks a label: {len(statements)} "
                f"statements are too few to choose heads by."
            )
    read = [
        extract_activations(
            model, tokenizer, part.texts, layers=layers, heads=True, progress=progress
        )
        for part in parts
    ]
    per_head = [each.reshape(len(each), len(layers), number_of_heads(model), -1) for each in read]
    ranked = rank_heads(per_head[0], parts[0].labels, per_head[1], parts[1].labels, layers)
    chosen = ranked[:heads]
    directions = {
        layer: _joined(
            {
                head.number: layer_vector(method, per_head[0][:, at, head.number], parts[0])
                for head in chosen
                if head.layer == layer
            },
            per_head[0].shape[2:],
        )
        for at, layer in enumerate(layers)
        if any(head.layer == layer for head in chosen)
    }
    named = {
        str(layer): sorted(h.number for h in chosen if h.layer == layer) for layer in directions
    }
    provenance = replace(provenance, settings=provenance.settings | {HEADS_SETTING: named})
    name = f"{statements.dimension.name} vector of heads"
    return SteeringVector(directions, provenance, name=name, site="heads")


def rank_heads(
    fitted: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.float32],
    held_out_labels: npt.NDArray[np.int64],
    layers: Sequence[int],
) -> list[Head]:
    """Return all heads, the most accurate first; among equals the lower layer and number.

    Args:
        fitted: What probes are fitted to, shape (statements, layers, heads, width).
        labels: 0 or 1, shape (statements,).
        held_out: What they are tested on, of the same form.
        held_out_labels: Their labels.
        layers: Number of each layer.
    """
    from sklearn.linear_model import LogisticRegression

    found = []
    for at, layer in enumerate(layers):
        for number in range(fitted.shape[2]):
            train, test = (each[:, at, number].astype(np.float64) for each in (fitted, held_out))
            mean, spread = train.mean(axis=0), train.std(axis=0)
            spread[spread == 0] = 1.0
            probe = LogisticRegression(max_iter=1000).fit((train - mean) / spread, labels)
            accuracy = probe.score((test - mean) / spread, held_out_labels)
            found.append(Head(layer, number, float(accuracy)))
    return sorted(found, key=lambda head: (-head.accuracy, head.layer, head.number))


def _joined(chosen: dict[int, LayerVector], shape: tuple[int, ...]) -> LayerVector:
    """Return the heads' scaled directions side by side; what is not chosen is 0."""
    joined = torch.zeros(shape)
    for number, head in chosen.items():
        joined[number] = head.scaled("projection_std")
    direction = joined.flatten()
    return LayerVector(direction, projection_std=float(direction.norm()))

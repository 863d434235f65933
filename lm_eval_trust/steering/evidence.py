"""What predicts that a vector will steer, from the activations that were read to build it.

- **Agreement**: the mean cosine of the pair differences with their mean, over groups that hold both
  labels. Where pairs point different ways, steering moves some items the wrong way (Tan et al.
  2024, arXiv 2407.12404; Braun et al. 2025, arXiv 2505.22637).
- **Reversed pairs**: the share of pairs whose difference points away from the mean of the others.
- **Separability**: d′ and AUROC of the validation statements' projections on the direction.

Each figure is next to what chance gives. The mean of n unrelated differences has a cosine of
about 1/√n with each of them, so no fixed number is a threshold; the 95 % quantile with the order of
each pair drawn at random is. For the AUROC it is the one with the labels rearranged as
:class:`lm_eval_trust.analysis.nulls.Exchangeability` allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.nulls import Exchangeability
from lm_eval_trust.steering.methods import Floats, Labels, paired_differences

#: Random orders of the pairs, and rearrangements of the labels.
_DRAWS = 199
_LEVEL = 0.95


@dataclass(frozen=True)
class Evidence:
    """What the activations of one layer say about its direction; ``None`` where it is unknown.

    Attributes:
        pairs: Groups of the building part that hold both labels.
        agreement: Mean cosine of their differences with the mean difference, −1 to 1.
        agreement_by_chance: 95 % quantile of it with each pair in random order.
        reversed: Share of pairs whose difference points away from the mean of the other pairs.
        auroc: How often a trustworthy validation statement projects higher than another one.
        auroc_by_chance: 95 % quantile of it with rearranged labels.
        d_prime: Difference of the two labels' mean projections over the root mean square of
            their standard deviations.
    """

    pairs: int
    agreement: float | None = None
    agreement_by_chance: float | None = None
    reversed: float | None = None
    auroc: float | None = None
    auroc_by_chance: float | None = None
    d_prime: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """Statements that a direction was not built from.

    Attributes:
        activations: Shape (n, hidden).
        trustworthy: 1 for the trustworthy side, otherwise 0; shape (n,).
        groups: Group of each, shape (n,).
    """

    activations: npt.NDArray[np.float32]
    trustworthy: Labels
    groups: Sequence[str]


def evidence_of(
    direction: npt.NDArray[Any],
    activations: npt.NDArray[np.float32],
    labels: Labels,
    groups: Sequence[str],
    held_out: HeldOut | None,
) -> Evidence:
    """Return what predicts that one layer's direction will steer; deterministic.

    Args:
        direction: Towards the trustworthy side, shape (hidden,).
        activations: Activations of the statements that it was built from, shape (n, hidden).
        labels: Labels of these, 0 or 1, shape (n,).
        groups: Groups of these, shape (n,).
        held_out: The validation part; ``None`` if the direction was built from it as well.
    """
    random = np.random.default_rng(0)
    differences = paired_differences(np.asarray(activations, np.float64), labels, groups)
    found: dict[str, Any] = {"pairs": len(differences)}
    if len(differences) > 1:
        found |= _agreement(differences, random)
    if held_out is not None and 0 < held_out.trustworthy.sum() < len(held_out.trustworthy):
        found |= _separability(np.asarray(direction, np.float64), held_out, random)
    return Evidence(**found)


def _agreement(differences: Floats, random: np.random.Generator) -> dict[str, float]:
    number = len(differences)
    lengths = np.linalg.norm(differences, axis=1, keepdims=True)
    units = np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 0)
    orders = np.ones((1 + _DRAWS, number))
    orders[1:] = random.choice((-1.0, 1.0), size=(_DRAWS, number))
    sums = orders @ differences
    norms = np.linalg.norm(sums, axis=1)
    cosines = np.einsum("ij,ij->i", sums, orders @ units) / np.where(norms > 0, norms, 1) / number
    others = differences.sum(axis=0) - differences
    return {
        "agreement": float(cosines[0]),
        "agreement_by_chance": float(np.quantile(cosines, _LEVEL)),
        "reversed": float((np.einsum("ij,ij->i", differences, others) < 0).mean()),
    }


def _separability(
    direction: Floats, held_out: HeldOut, random: np.random.Generator
) -> dict[str, float | None]:
    from scipy.stats import rankdata

    high = held_out.trustworthy == 1
    projections = held_out.activations.astype(np.float64) @ direction
    ones, zeros = projections[high], projections[~high]
    exchange = Exchangeability.of_labels(held_out.trustworthy, held_out.groups)
    drawn = np.vstack([high, exchange.labelings(high, _DRAWS, random)])
    # Groups of unequal sides change the number of ones, but every labeling has both labels.
    number = drawn.sum(axis=1)
    ranks = drawn @ rankdata(projections)
    areas = (ranks - number * (number + 1) / 2) / (number * (len(high) - number))
    spread = math.sqrt((ones.var() + zeros.var()) / 2)
    return {
        "auroc": float(areas[0]),
        "auroc_by_chance": float(np.quantile(areas, _LEVEL)),
        "d_prime": float(ones.mean() - zeros.mean()) / spread if spread > 0 else None,
    }


def to_record(found: Mapping[int, Evidence]) -> dict[str, dict[str, Any]]:
    """Return the evidence of several layers as JSON-like values."""
    return {str(layer): asdict(each) for layer, each in sorted(found.items())}


def from_record(record: Mapping[str, Mapping[str, Any]]) -> dict[int, Evidence]:
    """Return what :func:`to_record` was given."""
    return {int(layer): Evidence(**values) for layer, values in record.items()}


def table(found: Mapping[int, Evidence]) -> str:
    """Return the figures as a table of lines, one for each layer."""
    head = f"{'layer':>5} {'agreement':>9} {'chance':>6} {'reversed':>8}"
    lines = [f"{head} {'AUROC':>6} {'chance':>6} {'d′':>6}"]
    for layer, each in sorted(found.items()):
        share = "-" if each.reversed is None else f"{each.reversed:.0%}"
        lines.append(
            f"{layer:>5} {_number(each.agreement):>9} {_number(each.agreement_by_chance):>6} "
            f"{share:>8} {_number(each.auroc):>6} {_number(each.auroc_by_chance):>6} "
            f"{_number(each.d_prime):>6}"
        )
    return "\n".join(lines)


def doubts(found: Mapping[int, Evidence]) -> list[str]:
    """Return one sentence for each reason to doubt that the vector will steer."""
    told = (
        (
            [i for i, e in found.items() if _within(e.agreement, e.agreement_by_chance)],
            "the differences of the pairs agree no more than chance has it, so that the vector "
            "moves some items one way and others the other",
        ),
        (
            [i for i, e in found.items() if _within(e.auroc, e.auroc_by_chance)],
            "the direction tells the labels of the validation statements apart no better than "
            "chance",
        ),
    )
    return [
        f"At {'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, sorted(layers)))} "
        f"{what} (95 % quantile)."
        for layers, what in told
        if layers
    ]


def _within(value: float | None, chance: float | None) -> bool:
    # Equal up to rounding counts as chance: with few pairs the observed order is a likely one.
    return value is not None and chance is not None and value <= chance + 1e-9


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

"""Simulated activations and labels in groups: level and power of nulls, for simulations.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lm_eval_trust.analysis.hsic import smoother
from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.analysis.kernels import gaussian_gram, standardise
from lm_eval_trust.analysis.nulls import permutation_null

Floats = npt.NDArray[np.float64]
LEVEL = 0.05


@dataclass(frozen=True)
class Draw:
    """One data set: input, layer, labels and groups, each of n rows."""

    inputs: Floats
    layer: Floats
    labels: Floats
    groups: npt.NDArray[np.int64]


def drawn(
    random: np.random.Generator,
    *,
    sizes: Sequence[int],
    spread: float,
    mixed: float,
    signal: float,
    clusters: float = 0.0,
) -> Draw:
    """Draw groups whose rows lie ``spread`` around their group's mean, on either side by itself.

    Args:
        random: Source of the draw.
        sizes: Rows of each group.
        spread: Standard deviation inside a group; that between groups is 1.
        mixed: Share of the groups inside of which labels alternate; one is drawn for each other.
        signal: How far apart the labels lie along the layer's first axis, in units of ``spread``.
        clusters: Standard deviation of the layer's means of a group's labels about the group's own.
    """
    groups = np.repeat(np.arange(len(sizes)), sizes)

    def side() -> Floats:
        means, noise = random.normal(size=(len(sizes), 4)), random.normal(size=(len(groups), 4))
        found: Floats = means[groups] + spread * noise
        return found

    alternating = random.permutation(len(sizes)) < mixed * len(sizes)
    constant = random.permutation(np.arange(len(sizes)) % 2)
    labels = np.concatenate(
        [
            random.permutation(np.arange(size) % 2) if both else np.full(size, one)
            for size, both, one in zip(sizes, alternating, constant, strict=True)
        ]
    )
    layer = side()
    layer[:, 0] += signal * spread * (labels - 0.5)
    if clusters:
        layer += clusters * random.normal(size=(len(sizes), 2, 4))[groups, labels]
    return Draw(side(), layer, labels.astype(np.float64), groups)


SETTINGS = InformationSettings(sigma=2.0)
#: Distance of the labels where there is dependence, in standard deviations inside a pair.
SIGNALS = (1.2, 1.2, 0.8)


def p_now(data: Draw) -> tuple[float, float]:
    """Return p of I(T, X) and of I(T, Y)."""
    plane = InformationPlane(data.inputs, data.labels, SETTINGS, groups=data.groups)
    found = plane.measure(data.layer)
    return found.input.p, found.label.p


def p_before(data: Draw) -> tuple[float, float]:
    """The same by shifts of all rows along one random order, whatever their groups."""
    sides = [torch.from_numpy(v) for v in (data.layer, data.inputs, data.labels[:, None])]
    layer, *others = (
        smoother(gaussian_gram(standardise(side), 2.0, by_dimension=True)) for side in sides
    )
    of_input, of_label = (permutation_null(layer, other).p for other in others)
    return of_input, of_label


def p_within(data: Draw) -> float:
    """Return p of I(T, Y) by a loop over permutations inside each pair."""
    random = np.random.default_rng(1)
    layer = standardise(torch.from_numpy(data.layer))
    matrix = smoother(gaussian_gram(layer, 2.0, by_dimension=True)).numpy()
    signs = data.labels - data.labels.mean()
    flips = random.choice((-1.0, 1.0), size=(199, len(signs) // 2)).repeat(2, axis=1)
    drawn_forms = [(signs * flip) @ matrix @ (signs * flip) for flip in flips]
    return float((1 + (np.array(drawn_forms) >= signs @ matrix @ signs - 1e-9).sum()) / 200)


DESIGNS: dict[str, dict[str, object]] = {
    "independent, n = 200": {"sizes": [1] * 200, "spread": 1.0, "mixed": 0.0},
    "100 pairs of both labels, sd .1": {"sizes": [2] * 100, "spread": 0.1, "mixed": 1.0},
    "100 pairs of both labels, sd .3": {"sizes": [2] * 100, "spread": 0.3, "mixed": 1.0},
    "100 pairs of both labels, sd 1": {"sizes": [2] * 100, "spread": 1.0, "mixed": 1.0},
    "40 groups of one label, sd .1": {"sizes": [5] * 40, "spread": 0.1, "mixed": 0.0},
    "60 groups of 2 to 4, one label": {"sizes": [2, 3, 4] * 20, "spread": 0.1, "mixed": 0.0},
    "60 groups of 2 to 4, both labels": {"sizes": [2, 3, 4] * 20, "spread": 0.3, "mixed": 1.0},
    "100 pairs, half of one label": {"sizes": [2] * 100, "spread": 0.1, "mixed": 0.5},
    "50 groups of 2:3, clusters of sd .5": {
        "sizes": [5] * 50,
        "spread": 0.5,
        "mixed": 1.0,
        "clusters": 1.0,
    },
    "50 groups of 3:3, clusters of sd .5": {
        "sizes": [6] * 50,
        "spread": 0.5,
        "mixed": 1.0,
        "clusters": 1.0,
    },
}

LEVELS_HEADER = ("design", "I(T,X) before", "I(T,Y) before", "I(T,X)", "I(T,Y)")
POWERS_HEADER = ("design", "distance in sd", "before", "now", "within pairs, by a loop")


def level_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often p ≤ .05 without dependence."""
    for name, design in DESIGNS.items():
        before, now = (_rates(design, 0.0, call, runs) for call in (p_before, p_now))
        yield name, *before, *now


def power_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often p ≤ .05 for I(T, Y) of pairs whose labels lie apart."""
    for (name, design), signal in zip(list(DESIGNS.items())[1:4], SIGNALS, strict=True):
        before, now = (_rates(design, signal, call, runs)[1] for call in (p_before, p_now))
        yield name, signal, before, now, float(_rates(design, signal, p_within, runs))


def _rates(
    design: dict[str, object], signal: float, call: Callable[[Draw], object], runs: int
) -> Floats:
    # The same data for every method, other data for every design.
    random = np.random.default_rng(list(repr(design).encode()))
    found = [call(drawn(random, signal=signal, **design)) for _ in range(runs)]  # type: ignore[arg-type]
    rate: Floats = (np.array(found) <= LEVEL).mean(axis=0)
    return rate

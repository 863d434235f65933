"""Probes and directions of one set of activations, applied to another, and under noise.

The sets are of the same statements, read by another checkpoint, or of other statements, read by the
same one. Each figure comes with what a probe and a direction of permuted labels reach (after Hewitt
and Liang 2019): activations of neighbouring checkpoints are similar, so even a meaningless
direction keeps much of its effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from lm_eval_trust.analysis.probing import FittedProbe
from lm_eval_trust.analysis.statistics import mean_interval
from lm_eval_trust.core.errors import InputError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]
#: One-sided 5 %: what an accuracy has to exceed to be above chance.
_ABOVE_CHANCE = 1.6449
#: Noise that is tried, in standard deviations of each activation.
_LEVELS = np.geomspace(1e-3, 1e3, 1201)


@dataclass(frozen=True)
class Transferred:
    """What a probe reaches on a set's test part.

    Attributes:
        accuracy: Share of labels told by the probe exactly as it was fitted.
        low: Lower end of its 95 % interval over groups.
        high: Upper end.
        auroc: Area under the ROC curve, which no shift of the activations changes.
        recentred: Accuracy after the mean activation of the set's training part is moved to that
            which the probe was fitted with; no label is used for it.
        control: Mean accuracy of the probes of permuted labels, each on its own; NaN without.
        n: Statements of the test part.
    """

    accuracy: float
    low: float
    high: float
    auroc: float
    recentred: float
    control: float
    n: int


def transferred(
    probe: FittedProbe,
    activations: Floats,
    labels: Integers,
    *,
    train: Integers,
    test: Integers,
    groups: Sequence[str] | None = None,
    same_statements: bool = True,
) -> Transferred:
    """Apply a probe to another set.

    Args:
        probe: Probe of another set of activations of the same width.
        activations: Shape (n, d).
        labels: 0 or 1, shape (n,).
        train: Positions of the training part, of which only the mean activation is used.
        test: Positions of the test part.
        groups: Group of each statement, for the interval.
        same_statements: Whether the probe was fitted on the same statements, so its controls'
            labels are known here.

    Raises:
        InputError: The activations have another width, are not finite, or a test part with one
            label only.
    """
    if activations.shape[1] != len(probe.weights):
        raise InputError(
            f"The probe reads {len(probe.weights)} activations, and this set has "
            f"{activations.shape[1]}; probes are applied to models of the same width."
        )
    if not np.isfinite(activations).all():
        raise InputError("The activations hold values that are not finite; no probe applies.")
    if len(np.unique(labels[test])) < 2:
        raise InputError("The test part has one label only; a probe needs both.")
    decisions = probe.decisions(activations[test])
    wanted = labels[test] == 1
    correct = (decisions[:, 0] > 0) == wanted
    low, high = mean_interval(correct, None if groups is None else [groups[i] for i in test])
    centre = activations[train].astype(np.float64).mean(axis=0)
    moved = decisions[:, 0] + (probe.centre - centre) @ probe.weights[:, 0]
    control = math.nan
    if same_statements and probe.labelings.shape[1] > 1:
        told = (decisions[:, 1:] > 0) == (probe.labelings[test, 1:] == 1)
        control = float(told.mean())
    return Transferred(
        accuracy=float(correct.mean()),
        low=low,
        high=high,
        auroc=float(roc_auc_score(wanted, decisions[:, 0])),
        recentred=float(((moved > 0) == wanted).mean()),
        control=control,
        n=len(test),
    )


def mean_differences(activations: Floats, labelings: Integers, train: Integers) -> Floats:
    """Return the unit difference of the labels' training means, shape (d, labelings), float64.

    Args:
        activations: Shape (n, d).
        labelings: 0 or 1, shape (n, labelings).
        train: Positions of the training part.
    """
    part, labels = activations[train].astype(np.float64), labelings[train].astype(np.float64)
    shares = labels / labels.sum(axis=0) - (1 - labels) / (1 - labels).sum(axis=0)
    found: Floats = part.T @ shares
    norms = np.linalg.norm(found, axis=0)
    return found / np.where(norms > 0, norms, math.inf)


def cosines(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the cosine of two directions, and the mean absolute one of their controls.

    Args:
        first: Unit directions, shape (d, 1 + controls), of :func:`mean_differences`.
        second: The same labelings' directions in other activations.
    """
    found = (first * second).sum(axis=0)
    return float(found[0]), float(np.abs(found[1:]).mean()) if len(found) > 1 else math.nan


@dataclass(frozen=True)
class Fragility:
    """Noise that a probe withstands, in standard deviations of each activation's training part.

    Attributes:
        half: At which half of its accuracy above one half is lost; NaN if it was at chance.
        chance: At which its accuracy is no longer above one half, one-sided 5 % with the test
            part's groups; 0 if it never was.
    """

    half: float
    chance: float


def fragility(
    probe: FittedProbe, activations: Floats, labels: Integers, *, test: Integers, groups: int
) -> Fragility:
    """Return the noise at which a probe's expected accuracy falls; nothing is drawn at random.

    With Gaussian noise on every activation, a decision z becomes normal around z, so the
    accuracy expected at noise σ is the mean of Φ(±z / (σ · spread)).

    Args:
        probe: Fitted on the set's training part.
        activations: Shape (n, d).
        labels: 0 or 1, shape (n,).
        test: Positions of the test part.
        groups: Number of groups in the test part.
    """
    margins = probe.decisions(activations[test])[:, 0] * np.where(labels[test] == 1, 1.0, -1.0)
    accuracy = float((margins > 0).mean())
    if not probe.spread[0] > 0:
        return Fragility(math.nan, 0.0)
    expected = ndtr(margins[None, :] / (_LEVELS[:, None] * probe.spread[0])).mean(axis=1)
    above = 0.5 + _ABOVE_CHANCE * math.sqrt(0.25 / groups)
    if accuracy <= above:
        return Fragility(math.nan, 0.0)
    half = _first_at(expected, 0.5 + (accuracy - 0.5) / 2)
    return Fragility(half, _first_at(expected, above))


def _first_at(expected: Floats, accuracy: float) -> float:
    """Return the first noise with no more than this accuracy; infinity if there is none."""
    below = np.flatnonzero(expected <= accuracy)
    return float(_LEVELS[below[0]]) if len(below) else math.inf

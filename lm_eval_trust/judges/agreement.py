"""How well verdicts agree with labels, or with another judge's, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special
from sklearn.metrics import roc_curve

from lm_eval_trust.analysis.statistics import (
    GroupTotals,
    effective_number,
    proportion_interval,
)
from lm_eval_trust.judges.interface import Verdict

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval over groups; ``nan`` if undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """How well a judge judges.

    Attributes:
        items: Number of texts that it was asked about.
        judged: Number of texts with a verdict; the statistics are over these.
        positives: How many of those are labelled 1.
        accuracy: Share of correct verdicts.
        kappa: Cohen's (1960): 1 for full agreement, 0 for chance agreement.
        auroc: Area under the ROC curve of its scores; ``None`` if it gives no scores.
        sensitivity: Share of the texts labelled 1 that it accepts.
        specificity: Share of the texts labelled 0 that it does not accept.
        positive_items: Effective number of independent texts behind the sensitivity.
        negative_items: The same behind the specificity.
        positive_groups: Effective number of groups with texts labelled 1 (Kish 1965).
        negative_groups: The same with texts labelled 0.
        correlation: Correlation of the errors of sensitivity and specificity over groups; 0 where
            no group has errors of both.
    """

    items: int
    judged: int
    positives: int
    accuracy: Estimate
    kappa: Estimate
    auroc: Estimate | None
    sensitivity: Estimate
    specificity: Estimate
    positive_items: float
    negative_items: float
    positive_groups: float
    negative_groups: float
    correlation: float

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-like values; an undefined statistic is ``None``."""
        found: dict[str, Any] = asdict(self)
        for name in ("accuracy", "kappa", "auroc", "sensitivity", "specificity"):
            if found[name] is not None:
                numbers = found[name].items()
                found[name] = {k: round(v, 6) if np.isfinite(v) else None for k, v in numbers}
        return found


def quality(labels: Labels, verdicts: Sequence[Verdict], groups: Sequence[str]) -> Quality:
    """Measure verdicts against labels.

    Args:
        labels: 1 if the judge should say yes, shape (n,).
        verdicts: One for each label.
        groups: Group of each item, which stands or falls as a whole.
    """
    judged = np.array([verdict.accepted is not None for verdict in verdicts], dtype=bool)
    said = np.array([float(bool(v.accepted)) for v in verdicts])[judged]
    labels, kept = labels[judged], [g for g, has in zip(groups, judged, strict=True) if has]
    scores = [verdict.score for verdict in verdicts if verdict.accepted is not None]
    scored = len(scores) > 0 and None not in scores
    positive, negative = (_share(labels == of, said == of, kept) for of in (1, 0))
    return Quality(
        items=len(verdicts),
        judged=int(judged.sum()),
        positives=int(labels.sum()),
        accuracy=_share(np.ones(len(labels), dtype=bool), said == labels, kept)[0],
        kappa=_kappa(labels, said, kept),
        auroc=_auroc(labels, np.array(scores, dtype=np.float64), kept) if scored else None,
        sensitivity=positive[0],
        specificity=negative[0],
        positive_items=positive[1],
        negative_items=negative[1],
        positive_groups=positive[2],
        negative_groups=negative[2],
        correlation=_shared_errors(labels, said == labels, kept),
    )


def between(first: Sequence[Verdict], second: Sequence[Verdict], groups: Sequence[str]) -> Quality:
    """Measure one judge's verdicts against another's, over the texts that both judged."""
    both = [v.accepted is not None for v in first]
    labels = np.array([int(bool(v.accepted)) for v in first], dtype=np.int64)[both]
    chosen = [verdict for verdict, has in zip(second, both, strict=True) if has]
    kept = [group for group, has in zip(groups, both, strict=True) if has]
    return quality(labels, chosen, kept)


def threshold_curve(labels: Labels, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return accuracy, kappa and both rates for each threshold on the score, at most 200.

    Columns: ``threshold`` (the lowest score that is accepted), ``accuracy``, ``kappa``,
    ``true_positive_rate``, ``false_positive_rate``. Empty for a judge without scores.
    """
    scored = [i for i, verdict in enumerate(verdicts) if verdict.score is not None]
    columns = ["threshold", "accuracy", "kappa", "true_positive_rate", "false_positive_rate"]
    labels = labels[scored]
    if len(set(labels.tolist())) < 2:
        return pd.DataFrame(columns=columns)
    scores = np.array([verdicts[i].score for i in scored], dtype=np.float64)
    false, true, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    picked = np.unique(np.linspace(0, len(thresholds) - 1, _CURVE_POINTS).round().astype(int))
    accepted = (scores >= thresholds[picked, None]).astype(np.float64)
    rows = [
        (threshold, accuracy(labels, said), kappa(labels, said), *rates)
        for threshold, said, *rates in zip(
            thresholds[picked], accepted, true[picked], false[picked], strict=True
        )
        if np.isfinite(threshold)
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("threshold", ignore_index=True)


_UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def _share(
    chosen: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_], groups: Sequence[str]
) -> tuple[Estimate, float, float]:
    """Return the share of chosen items that are right, and the effective numbers behind it."""
    if not chosen.any():
        return _UNDEFINED, 0.0, 0.0
    values = right[chosen].astype(np.float64)
    kept = [group for group, has in zip(groups, chosen, strict=True) if has]
    totals = GroupTotals.of(values, kept)
    found = Estimate(totals.mean, *proportion_interval(values, kept))
    return found, totals.effective_items(), totals.whole_groups


def _shared_errors(labels: Labels, right: npt.NDArray[np.bool_], groups: Sequence[str]) -> float:
    """Return how the errors of both rates go together over groups, −1 to 1."""
    _, place = np.unique(np.array(groups, dtype=object), return_inverse=True)
    beyond = []
    for of in (1, 0):
        chosen = labels == of
        if not chosen.any():
            return 0.0
        missed = np.where(chosen, right - right[chosen].mean(), 0.0)
        beyond.append(np.bincount(place, weights=missed).astype(np.float64))
    scale = np.sqrt(np.square(beyond[0]).sum() * np.square(beyond[1]).sum())
    return float(beyond[0] @ beyond[1] / scale) if scale > 0 else 0.0


def _kappa(labels: Labels, said: Values, groups: Sequence[str]) -> Estimate:
    """Return kappa; its interval is the wider one of two on each side.

    The jackknife's over groups with Student's quantile, and that of the accuracy with the chance
    agreement held: 1 − kappa is the share of errors over that expected by chance.
    """
    if not len(labels):
        return _UNDEFINED
    _, place = np.unique(np.array(groups, dtype=object), return_inverse=True)
    number = int(place.max()) + 1
    value, agreed = kappa(labels, said), accuracy(labels, said)
    right = GroupTotals.of((labels == said).astype(np.float64), list(groups))
    if not np.isfinite(value) or number < 2:
        return Estimate(value, np.nan, np.nan)
    columns = np.stack([np.ones(len(labels)), labels, said, labels == said])
    left = columns.sum(axis=1)[:, None] - np.array([np.bincount(place, c) for c in columns])
    ones, says, same = left[1:] / left[0]
    chance = ones * says + (1 - ones) * (1 - says)
    without = np.where(chance < 1, (same - chance) / np.where(chance < 1, 1 - chance, 1.0), value)
    error = np.sqrt((number - 1) / number * np.square(without - without.mean()).sum())
    half = right.quantile(0.975) * error
    expected = (1 - agreed) / (1 - value) if value < 1 else _expected_errors(labels, said)
    low, high = proportion_interval((labels == said).astype(np.float64), list(groups))
    ends = (value - half, value + half, 1 - (1 - low) / expected, 1 - (1 - high) / expected)
    return Estimate(value, max(-1.0, min(ends)), min(1.0, max(ends)))


def _expected_errors(labels: Labels, said: Values) -> float:
    ones, says = labels.mean(), said.mean()
    return float(ones * (1 - says) + (1 - ones) * says)


def _auroc(labels: Labels, scores: Values, groups: Sequence[str]) -> Estimate:
    """Return the AUROC; its interval is the widest of three on each side.

    Student's and the logit's with the standard error of DeLong, DeLong and Clarke-Pearson (1988),
    clustered by Obuchowski (1997); and the score interval of Newcombe (2006, method 5) with
    effective numbers of texts, which stays open where no pair is in the wrong order.
    """
    value = auroc(labels, scores)
    if np.isnan(value):
        return _UNDEFINED
    positive, negative = scores[labels == 1], scores[labels == 0]
    _, place = np.unique(np.array(groups, dtype=object), return_inverse=True)
    number = int(place.max()) + 1
    if number < 2:
        return Estimate(value, np.nan, np.nan)
    beyond = np.zeros(len(scores))
    beyond[labels == 1] = (_below(positive, negative) - value) / len(positive)
    beyond[labels == 0] = (1 - _below(negative, positive) - value) / len(negative)
    by_group = np.bincount(place, weights=beyond).astype(np.float64)
    error = float(np.sqrt(number / (number - 1) * np.square(by_group).sum()))
    quantile = float(special.stdtrit(number - 1, 0.975))
    ends = [value - quantile * error, value + quantile * error]
    if 0 < value < 1:
        half = quantile * error / (value * (1 - value))
        ends += [float(special.expit(special.logit(value) + s * half)) for s in (-1, 1)]
    ends += _newcombe(value, *_effective(labels, place, by_group), quantile)
    return Estimate(value, max(0.0, min(ends)), min(1.0, max(ends)))


def _below(values: Values, others: Values) -> Values:
    """Return the share of others below each value, a tie as one half, shape (values,)."""
    ordered = np.sort(others)
    ranks = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(ranks / 2 / len(others), dtype=np.float64)


def _effective(labels: Labels, place: npt.NDArray[Any], beyond: Values) -> tuple[float, float]:
    """Return effective numbers of positive and of negative texts.

    Between all and whole groups, as :attr:`GroupTotals.effective_items`: more like all, the more
    groups there are in which texts are in the wrong order.
    """
    differing = int((beyond < -1e-12).sum())
    found = []
    for of in (1, 0):
        sizes = np.bincount(place[labels == of]).astype(np.float64)
        whole = float(sizes.sum() ** 2 / np.square(sizes).sum())
        found.append(effective_number(float(sizes.sum()), whole, differing))
    return found[0], found[1]


def _newcombe(value: float, positive: float, negative: float, quantile: float) -> list[float]:
    """Return the ends of the areas whose own variance is compatible with the observed one."""
    area = np.linspace(1e-5, 1 - 1e-5, 10_001)
    number = (positive + negative) / 2
    beyond = (number - 1) * ((1 - area) / (2 - area) + area / (1 + area))
    variance = area * (1 - area) * (1 + beyond) / (positive * negative)
    held = area[np.square(value - area) <= quantile**2 * variance]
    return [float(held[0]), float(held[-1])] if len(held) else []


def accuracy(labels: Labels, said: Values) -> float:
    """Return the share of verdicts that equal the labels.

    Args:
        labels: 0 or 1, shape (n,).
        said: Verdicts, 0 or 1, shape (n,).
    """
    return float((labels == said).mean())


def kappa(labels: Labels, said: Values) -> float:
    """Return Cohen's kappa; ``nan`` if chance agreement is 1. Arguments as above."""
    chance = 1 - _expected_errors(labels, said) if len(labels) else 1.0
    return (accuracy(labels, said) - chance) / (1 - chance) if chance < 1 else math.nan


def auroc(labels: Labels, scores: Values) -> float:
    """Return the area under the ROC curve: how often a positive outscores a negative.

    A tie counts half; ``nan`` if a class is missing.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Shape (n,).
    """
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        return math.nan
    return float(_below(positive, negative).mean())

"""How well verdicts agree with labels, or with another judge's, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_curve

from lm_eval_trust.analysis.statistics import resample_counts
from lm_eval_trust.judges.interface import Verdict

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
#: ``(labels (n,), predictions (n,), weights (r, n))`` → figures (r,).
Statistic = Callable[[Labels, Values, Values], Values]

_RESAMPLES = 1000
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval by bootstrap over groups; ``nan`` if undefined."""

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
    """

    items: int
    judged: int
    positives: int
    accuracy: Estimate
    kappa: Estimate
    auroc: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-like values; an undefined statistic is ``None``."""
        found: dict[str, Any] = asdict(self)
        for name in ("accuracy", "kappa", "auroc"):
            if found[name] is not None:
                numbers = found[name].items()
                found[name] = {k: round(v, 6) if np.isfinite(v) else None for k, v in numbers}
        return found


def quality(
    labels: Labels, verdicts: Sequence[Verdict], groups: Sequence[str], *, seed: int = 0
) -> Quality:
    """Measure verdicts against labels.

    Args:
        labels: 1 if the judge should say yes, shape (n,).
        verdicts: One for each label.
        groups: Group of each item; a group is resampled as a whole.
        seed: Seed of the bootstrap.
    """
    judged = np.array([verdict.accepted is not None for verdict in verdicts], dtype=bool)
    said = np.array([float(bool(v.accepted)) for v in verdicts])[judged]
    labels, kept = labels[judged], [g for g, has in zip(groups, judged, strict=True) if has]
    scores = [verdict.score for verdict in verdicts if verdict.accepted is not None]
    scored = len(scores) > 0 and None not in scores
    weights = _resamples(kept, seed)

    def measured(statistic: Statistic, values: Values) -> Estimate:
        return _estimate(statistic, labels, values, weights)

    return Quality(
        items=len(verdicts),
        judged=int(judged.sum()),
        positives=int(labels.sum()),
        accuracy=measured(accuracy, said),
        kappa=measured(kappa, said),
        auroc=measured(auroc, np.array(scores, dtype=np.float64)) if scored else None,
    )


def between(
    first: Sequence[Verdict], second: Sequence[Verdict], groups: Sequence[str], *, seed: int = 0
) -> Quality:
    """Measure one judge's verdicts against another's, over the texts that both judged."""
    both = [v.accepted is not None for v in first]
    labels = np.array([int(bool(v.accepted)) for v in first], dtype=np.int64)[both]
    chosen = [verdict for verdict, has in zip(second, both, strict=True) if has]
    kept = [group for group, has in zip(groups, both, strict=True) if has]
    return quality(labels, chosen, kept, seed=seed)


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
    one = np.ones((1, len(labels)))
    rows = [
        (threshold, *(float(f(labels, said, one)[0]) for f in (accuracy, kappa)), *rates)
        for threshold, said, *rates in zip(
            thresholds[picked], accepted, true[picked], false[picked], strict=True
        )
        if np.isfinite(threshold)
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("threshold", ignore_index=True)


def _estimate(statistic: Statistic, labels: Labels, values: Values, resamples: Values) -> Estimate:
    if not len(labels):
        return Estimate(np.nan, np.nan, np.nan)
    drawn = statistic(labels, values, resamples)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (np.nan, np.nan)
    (value,) = statistic(labels, values, np.ones((1, len(labels))))
    return Estimate(float(value), float(low), float(high))


def _resamples(groups: Sequence[str], seed: int) -> Values:
    """Return how often each item occurs when groups are drawn with replacement, shape (r, n)."""
    if not groups:
        return np.zeros((0, 0))
    names, place = np.unique(np.array(groups, dtype=object), return_inverse=True)
    blocks = resample_counts(len(names), _RESAMPLES, np.random.default_rng(seed), multinomial=True)
    return np.concatenate([counts[:, place] for counts in blocks])


def accuracy(labels: Labels, said: Values, weights: Values) -> Values:
    """Return the weighted share of verdicts that equal the labels, shape (r,).

    Args:
        labels: 0 or 1, shape (n,).
        said: Verdicts, 0 or 1, shape (n,).
        weights: One row for each resample, shape (r, n).
    """
    agreed: Values = weights @ (labels == said) / weights.sum(axis=1)
    return agreed


def kappa(labels: Labels, said: Values, weights: Values) -> Values:
    """Return Cohen's kappa, shape (r,); ``nan`` if chance agreement is 1. Arguments as above."""
    total = weights.sum(axis=1)
    ones, says = weights @ labels / total, weights @ said / total
    chance = ones * says + (1 - ones) * (1 - says)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = (accuracy(labels, said, weights) - chance) / (1 - chance)
    return np.where(chance < 1, found, np.nan)


def auroc(labels: Labels, scores: Values, weights: Values) -> Values:
    """Return the area under the ROC curve, shape (r,): how often a positive outscores a negative.

    A tie counts half; ``nan`` if a resample lacks a class. Arguments as above.
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * labels[order], starts, axis=1)
    negative = np.add.reduceat(ordered * (1 - labels[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    with np.errstate(invalid="ignore", divide="ignore"):
        wins = (positive * (below + negative / 2)).sum(axis=1)
        found: Values = wins / (positive.sum(axis=1) * negative.sum(axis=1))
    return found

"""Linear probes: how well a hyperplane through activations separates two labels.

After the paper (arXiv 2402.19465, section 2): logistic regression with an L2 penalty (C = 1) on
last-token activations, standardised with the training part's statistics. There are also a mass-mean
probe (Marks and Tegmark 2023), and control labelings (after Hewitt and Liang 2019): the accuracy of
the same probe on labels that are permuted as the groups allow. What words alone tell is in
:mod:`lm_eval_trust.analysis.words`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from lm_eval_trust.analysis.logistic import FeatureSpace
from lm_eval_trust.analysis.nulls import Groups, as_names, relabelings
from lm_eval_trust.analysis.statistics import mean_interval
from lm_eval_trust.core.errors import InputError

#: Labelings that are tried for each control.
_TRIES = 50

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are fitted and evaluated.

    Attributes:
        regularisations: Values of scikit-learn's C; of several, the first with the best accuracy on
            the validation part is used.
        controls: Number of random labelings: the labels with the sides of groups exchanged, or
            swapped between groups; see :func:`lm_eval_trust.analysis.nulls.relabelings`.
        seed: Seed of the controls.
        device: On which the fits are computed.
    """

    regularisations: tuple[float, ...] = (1.0,)
    controls: int = 0
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class ProbeResult:
    """A probe's results on the test part.

    Attributes:
        accuracy: Share of correct labels.
        low: Lower end of the accuracy's 95 % interval over groups
            (:func:`lm_eval_trust.analysis.statistics.mean_interval`).
        high: Upper end.
        auroc: Area under the ROC curve.
        majority: Accuracy of always answering the training part's more frequent label.
        mass_mean: Accuracy of the hyperplane halfway between the two labels' training means.
        validation: Share of correct labels in the validation part; NaN without one. It chooses
            among layers, so the test part has no say in which is reported.
        validation_auroc: Area under the ROC curve there; NaN without both labels.
        control: Mean accuracy on the control labelings; ``None`` if none was asked for, and NaN if
            the groups allow no other labeling.
        regularisation: The C used.
        n_train: Number of statements it was fitted on.
        n_test: Number of statements it was tested on.
        correct: Whether each statement of the test part was classified correctly, shape (n_test,).
    """

    accuracy: float
    low: float
    high: float
    auroc: float
    majority: float
    mass_mean: float
    validation: float
    validation_auroc: float
    control: float | None
    regularisation: float
    n_train: int
    n_test: int
    correct: npt.NDArray[np.bool_] = field(repr=False, compare=False)

    @property
    def selectivity(self) -> float | None:
        """Accuracy minus that on the control labelings."""
        return None if self.control is None else self.accuracy - self.control


def probe(
    activations: Floats,
    labels: Integers,
    *,
    train: Integers,
    test: Integers,
    validation: Integers | None = None,
    groups: Groups | None = None,
    settings: ProbeSettings | None = None,
) -> ProbeResult:
    """Fit a logistic regression on the training part and test it.

    All values of C and all control labelings are fitted together
    (:class:`lm_eval_trust.analysis.logistic.FeatureSpace`).

    Args:
        activations: Shape (n, d), any floating dtype; computed in float64.
        labels: 0 or 1, shape (n,).
        train: Positions of the training part.
        test: Positions of the test part.
        validation: Positions of the validation part, for choosing among values of C; may be empty.
        groups: Group of each statement, for the interval and the control labelings; without them,
            each is its own group.
        settings: How probes are fitted and evaluated.

    Raises:
        InputError: Values that are not finite, labels other than 0 and 1, a training or test part
            with one label only, or several values of C without a validation part.
    """
    settings = settings or ProbeSettings()
    _check(activations, labels, train, test, validation, settings)
    validation = _unless_empty(validation)
    features = _Features(activations, train, settings.device)
    labelings = _labelings(labels, groups, train, settings)
    fits = _fit_all(features.train, labelings[train], settings)
    right = _Accuracies(features, labelings, fits, settings)
    chosen = right.best(train if validation is None else validation)
    decisions = right.decisions(test, chosen)
    real = decisions[:, 0]
    correct = (real > 0) == (labels[test] == 1)
    names = None if groups is None else as_names(groups)
    low, high = mean_interval(correct, None if names is None else [names[i] for i in test])
    accuracies = ((decisions > 0) == (labelings[test] == 1)).mean(axis=0)
    common = int(2 * labels[train].sum() > len(train))
    validated = _validated(right, chosen, labels, validation)
    return ProbeResult(
        accuracy=float(correct.mean()),
        low=low,
        high=high,
        auroc=float(roc_auc_score(labels[test], real)),
        majority=float((labels[test] == common).mean()),
        mass_mean=_mass_mean(features, labels, train, test),
        validation=validated[0],
        validation_auroc=validated[1],
        control=_mean(accuracies[1:]) if settings.controls else None,
        regularisation=settings.regularisations[int(chosen[0])],
        n_train=len(train),
        n_test=len(test),
        correct=correct,
    )


@dataclass(frozen=True)
class FittedProbe:
    """Probes of one set of activations, to be applied to others: the real one, then its controls.

    Attributes:
        weights: Weights of the activations as they are, float64, shape (d, 1 + controls).
        intercepts: Shape (1 + controls,).
        spread: Standard deviation of each decision under noise as large as each activation's own
            in the training part, shape (1 + controls,).
        centre: Mean activation of the training part, shape (d,).
        labelings: Labels that each was fitted to, shape (n, 1 + controls).
    """

    weights: Floats
    intercepts: Floats
    spread: Floats
    centre: Floats
    labelings: Integers

    def decisions(self, activations: Floats) -> Floats:
        """Return decision values, shape (n, 1 + controls); above 0 the label is 1."""
        found: Floats = activations.astype(np.float64) @ self.weights + self.intercepts
        return found


def fit_probe(
    activations: Floats,
    labels: Integers,
    *,
    train: Integers,
    validation: Integers | None = None,
    groups: Groups | None = None,
    settings: ProbeSettings | None = None,
) -> FittedProbe:
    """Fit the probe of :func:`probe`, and its controls, without testing it; arguments as there.

    Raises:
        InputError: As :func:`probe`.
    """
    settings = settings or ProbeSettings()
    _check(activations, labels, train, train, validation, settings)
    validation = _unless_empty(validation)
    features = _Features(activations, train, settings.device)
    labelings = _labelings(labels, groups, train, settings)
    fits = _fit_all(features.train, labelings[train], settings)
    chosen = _Accuracies(features, labelings, fits, settings).best(
        train if validation is None else validation
    )
    used = fits[:, np.arange(labelings.shape[1]) * len(settings.regularisations) + chosen]
    weights, intercepts = features.unscaled(used)
    varies = torch.isfinite(features.deviation)[:, None]
    return FittedProbe(
        weights=weights.cpu().numpy(),
        intercepts=intercepts.cpu().numpy(),
        spread=torch.where(varies, used[:-1], 0.0).norm(dim=0).cpu().numpy(),
        centre=features.mean.cpu().numpy(),
        labelings=labelings,
    )


class _Features:
    """Activations on a device, and how the training part standardises them.

    Attributes:
        train: The training part, standardised, float64, shape (n_train, d).
        mean: Its mean before, shape (d,).
        deviation: Its standard deviations, shape (d,). A feature that is constant in training
            carries no information: its deviation is infinite, so that it becomes 0.
    """

    def __init__(self, activations: Floats, train: Integers, device: str) -> None:
        self._values = torch.from_numpy(np.ascontiguousarray(activations)).to(device)
        part = self._rows(train).to(torch.float64)
        deviation = part.std(dim=0, correction=0)
        self.mean = part.mean(dim=0)
        self.deviation = torch.where(deviation > 0, deviation, torch.inf)
        self.train = part.sub_(self.mean).div_(self.deviation)

    def unscaled(self, fits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights and intercepts for activations as they are.

        Args:
            fits: Those for standardised features, the intercept last, shape (d + 1, k).
        """
        weights = fits[:-1] / self.deviation[:, None]
        return weights, fits[-1] - self.mean @ weights

    def decide(self, rows: Integers, fits: torch.Tensor) -> torch.Tensor:
        """Return decision values of rows, shape (rows, k)."""
        weights, intercepts = self.unscaled(fits)
        return self._rows(rows).to(torch.float64) @ weights + intercepts

    def _rows(self, rows: Integers) -> torch.Tensor:
        return self._values[torch.from_numpy(rows).to(self._values.device)]


class _Accuracies:
    """Decisions of all fits: labelings × values of C."""

    def __init__(
        self, features: _Features, labelings: Integers, fits: torch.Tensor, settings: ProbeSettings
    ) -> None:
        self._features, self._labelings = features, labelings
        self._fits, self._values = fits, len(settings.regularisations)

    def decisions(self, rows: Integers, chosen: Integers) -> Floats:
        """Return decision values of each labeling's chosen fit, shape (rows, labelings)."""
        columns = np.arange(self._labelings.shape[1]) * self._values + chosen
        found: Floats = self._decide(rows)[:, columns]
        return found

    def best(self, rows: Integers) -> Integers:
        """Return the position of each labeling's best C on these rows."""
        if self._values == 1:
            return np.zeros(self._labelings.shape[1], dtype=np.int64)
        wanted = np.repeat(self._labelings[rows] == 1, self._values, axis=1)
        accuracy = ((self._decide(rows) > 0) == wanted).mean(axis=0)
        best: Integers = accuracy.reshape(-1, self._values).argmax(axis=1)
        return best

    def _decide(self, rows: Integers) -> Floats:
        found: Floats = self._features.decide(rows, self._fits).cpu().numpy()
        return found


def _fit_all(features: torch.Tensor, labelings: Integers, settings: ProbeSettings) -> torch.Tensor:
    """Return coefficients and intercepts, shape (d + 1, labelings × values of C)."""
    values = settings.regularisations
    labels = torch.from_numpy(np.repeat(labelings, len(values), axis=1)).to(features.device)
    c = torch.tensor(values, dtype=torch.float64).repeat(labelings.shape[1])
    fits = FeatureSpace(features).fit(labels, c.to(features.device))
    return torch.cat([fits.coefficients.T, fits.intercepts[None]])


def _labelings(
    labels: Integers, groups: Groups | None, train: Integers, settings: ProbeSettings
) -> Integers:
    """Return the labels and their random relabelings, shape (n, 1 + controls) or less."""
    columns: list[npt.NDArray[np.generic]] = [labels]
    if settings.controls:
        drawn = relabelings(labels, groups, np.random.default_rng(settings.seed))
        # Those of small sets may have one label only in training, however many are drawn.
        tried = itertools.islice(drawn, _TRIES * settings.controls)
        fit = (each for each in tried if len(np.unique(each[train])) == 2)
        columns += itertools.islice(fit, settings.controls)
    return np.stack(columns, axis=1).astype(np.int64)


def _unless_empty(part: Integers | None) -> Integers | None:
    return part if part is not None and len(part) else None


def _validated(
    right: _Accuracies, chosen: Integers, labels: Integers, validation: Integers | None
) -> tuple[float, float]:
    """Return accuracy and AUROC on the validation part; NaN where they are not defined."""
    if validation is None:
        return math.nan, math.nan
    decisions, wanted = right.decisions(validation, chosen)[:, 0], labels[validation]
    both = len(np.unique(wanted)) == 2
    auroc = float(roc_auc_score(wanted, decisions)) if both else math.nan
    return float(((decisions > 0) == (wanted == 1)).mean()), auroc


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _mass_mean(features: _Features, labels: Integers, train: Integers, test: Integers) -> float:
    ones = torch.from_numpy(labels[train] == 1).to(features.mean.device)
    one, zero = features.train[ones].mean(dim=0), features.train[~ones].mean(dim=0)
    direction, middle = one - zero, (one + zero) / 2
    fit = torch.cat([direction, -(middle @ direction)[None]])[:, None]
    above = (features.decide(test, fit)[:, 0] > 0).cpu().numpy()
    return float((above == (labels[test] == 1)).mean())


def _check(
    activations: Floats,
    labels: Integers,
    train: Integers,
    test: Integers,
    validation: Integers | None,
    settings: ProbeSettings,
) -> None:
    if not np.isfinite(activations).all():
        raise InputError("The activations hold values that are not finite; no probe can be fitted.")
    if activations.ndim != 2 or len(activations) != len(labels):
        raise InputError(
            f"Activations of shape {activations.shape} do not belong to {len(labels)} labels."
        )
    if not np.isin(labels, (0, 1)).all():
        raise InputError("Labels must be 0 or 1.")
    for name, part in (("training", train), ("test", test)):
        if len(np.unique(labels[part])) < 2:
            lack = "one label only" if len(part) else "no statements"
            raise InputError(f"The {name} part has {lack}; a probe needs both labels.")
    if len(settings.regularisations) > 1 and _unless_empty(validation) is None:
        raise InputError("Several values of C need a validation part to choose by.")

"""Linear probes: how well a straight cut through activations tells two labels apart.

After the paper (arXiv 2402.19465, section 2): logistic regression with an L2 penalty (C = 1) on
last-token activations, standardised with the training part's statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from lm_eval_trust.errors import InputError

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reached on the test part.

    Attributes:
        accuracy: Share of the test labels that it gets right.
        majority: Share that always saying the training part's commoner label gets right.
        n_train: Statements that it was fitted on.
        n_test: Statements that it was tested on.
    """

    accuracy: float
    majority: float
    n_train: int
    n_test: int


def probe(
    activations: Floats,
    labels: npt.NDArray[np.int64],
    *,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    regularisation: float = 1.0,
) -> ProbeResult:
    """Fit a logistic regression on the training part and test it.

    Args:
        activations: Shape (n, d), any floating dtype; computed in float64.
        labels: 0 or 1, shape (n,).
        train: Positions of the training part.
        test: Positions of the test part.
        regularisation: scikit-learn's C, the inverse of the penalty's weight.

    Raises:
        InputError: Values that are not finite, or a training part with one label only.
    """
    if not np.isfinite(activations).all():
        raise InputError("The activations hold values that are not finite; no probe can be fitted.")
    if len(np.unique(labels[train])) < 2:
        raise InputError("The training part has one label only; a probe needs both.")
    values = activations.astype(np.float64)
    mean, deviation = values[train].mean(axis=0), values[train].std(axis=0)
    # A feature that is constant in training tells nothing; it stays at zero.
    scaled = (values - mean) / np.where(deviation > 0, deviation, np.inf)
    model = LogisticRegression(C=regularisation, max_iter=2000)
    predicted = model.fit(scaled[train], labels[train]).predict(scaled[test])
    common = int(2 * labels[train].sum() > len(train))
    return ProbeResult(
        accuracy=float((predicted == labels[test]).mean()),
        majority=float((labels[test] == common).mean()),
        n_train=len(train),
        n_test=len(test),
    )

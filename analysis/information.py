"""I(T, X) and I(T, Y) of a layer: its dependence on the input and on the label, with nulls.

After arXiv 2402.19465, section 4: X is block 0's output, T the layer's, Y the label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from lm_eval_trust.analysis.estimators import ESTIMATORS
from lm_eval_trust.analysis.hsic import EPSILON, SIGMA, Samples
from lm_eval_trust.analysis.kernels import PRECISIONS, as_samples, require_equal_n, standardise
from lm_eval_trust.analysis.nulls import PERMUTATIONS, Exchangeability, Groups, Null
from lm_eval_trust.core.errors import InputError, unknown_name


@dataclass(frozen=True)
class InformationSettings:
    """How dependence is measured.

    Attributes:
        estimator: Name in :data:`lm_eval_trust.analysis.estimators.ESTIMATORS`: ``nhsic`` (what
            the paper's figures show), ``hsic`` (its equation 5), or another package's.
        sigma: Width of the kernels, or ``median`` for the median distance of each side's samples.
        epsilon: Ridge of ``nhsic``, multiplied by n.
        permutations: Permutations of the null; 0 for no null.
        seed: Seed of the null and of subsamples.
        precision: ``float64``, or ``mixed``: products of samples in float32, all else in float64.
        standardised_labels: Bring labels to variance 1 like activations, instead of leaving them 0
            and 1 as the paper's release does. nHSIC of balanced labels is 7.3 % larger then, at
            σ = 50.
    """

    estimator: str = "nhsic"
    sigma: float | Literal["median"] = SIGMA
    epsilon: float = EPSILON
    permutations: int = PERMUTATIONS
    seed: int = 0
    precision: str = "float64"
    standardised_labels: bool = False

    def __post_init__(self) -> None:
        ESTIMATORS[self.estimator]  # raises with the known names
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class LayerInformation:
    """A layer's dependence on input and label.

    Attributes:
        input: I(T, X) with its null.
        label: I(T, Y) with its null.
    """

    input: Null
    label: Null


class InformationPlane:
    """Measures layers against one input and one labelling, whose factors it computes once.

    Args:
        inputs: Activations of the input, floats of shape (n, d).
        labels: 0 or 1, shape (n,).
        settings: How dependence is measured.
        groups: What belongs together (a question's answers, a context's candidates), shape (n,);
            ``None`` for independent rows. Nulls only use rearrangements that groups allow; see
            :mod:`lm_eval_trust.analysis.nulls`.

    Raises:
        InputError: Unequal n, bad values, or only one label.
    """

    def __init__(
        self,
        inputs: Samples,
        labels: Samples,
        settings: InformationSettings | None = None,
        groups: Groups | None = None,
    ) -> None:
        self._settings = settings or InformationSettings()
        self._estimator = ESTIMATORS[self._settings.estimator]
        x, y = as_samples(inputs, name="inputs", convert=False), as_samples(labels, name="labels")
        require_equal_n(x, y)
        if not ((y == 0) | (y == 1)).all() or y.shape[1] != 1:
            raise InputError("labels must hold one label, 0 or 1, for each sample.")
        if y.min() == y.max():
            raise InputError("labels holds only one label; dependence on it is not defined.")
        self._n = len(x)
        self._rows_exchange = Exchangeability.of_rows(self._n, groups)
        self._label_exchange = Exchangeability.of_labels(y.cpu().numpy(), groups)
        self._inputs = self._factor(x)
        y = y.to(x.device)
        scaled = standardise(y) if self._settings.standardised_labels else y
        self._labels = self._estimator.label_factor(scaled, self._settings)

    def measure(self, t: Samples) -> LayerInformation:
        """Return I(T, X) and I(T, Y) of a layer's activations, shape (n, d).

        Raises:
            InputError: n differs from the input's, or bad values.
        """
        layer = as_samples(t, name="t", convert=False)
        if len(layer) != self._n:
            raise InputError(f"t holds {len(layer)} samples, inputs {self._n}; n must be equal.")
        factor = self._factor(layer)
        sides = ((self._inputs, self._rows_exchange), (self._labels, self._label_exchange))
        return LayerInformation(
            *(self._estimator.dependence(factor, side, self._settings, e) for side, e in sides)
        )

    def _factor(self, samples: torch.Tensor) -> Any:
        scaled = standardise(samples, PRECISIONS[self._settings.precision])
        return self._estimator.factor(scaled, self._settings)


def subsample_interval(
    x: Samples,
    y: Samples,
    t: Samples,
    settings: InformationSettings | None = None,
    *,
    share: float = 0.5,
    repeats: int = 20,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return 95 % intervals of I(T, X) and I(T, Y) by subsampling (Politis and Romano 1994).

    The estimators' level depends on n, so subsamples are used for the spread only: deviations from
    the subsamples' mean, scaled by the square root of their share, around the value at n.

    Args:
        x: Input, shape (n, d).
        y: Labels, shape (n,).
        t: Layer, shape (n, d).
        settings: How dependence is measured.
        share: Share of the samples in each subsample.
        repeats: Number of subsamples.

    Raises:
        InputError: As :class:`InformationPlane`, or a share that leaves too few samples.
    """
    settings = settings or InformationSettings()
    plain = replace(settings, permutations=0)
    inputs, labels, layer = (as_samples(v, name=n) for v, n in ((x, "x"), (y, "y"), (t, "t")))
    whole = InformationPlane(inputs, labels, plain).measure(layer)
    size = int(share * len(inputs))
    if not 4 <= size < len(inputs):
        raise InputError(f"A share of {share} of {len(inputs)} samples is not a proper subsample.")
    random = np.random.default_rng(settings.seed)
    values = []
    for _ in range(repeats):
        rows = torch.from_numpy(random.permutation(len(inputs))[:size]).to(inputs.device)
        found = InformationPlane(inputs[rows], labels[rows], plain).measure(layer[rows])
        values.append((found.input.value, found.label.value))
    deviations = share**0.5 * (np.array(values) - np.mean(values, axis=0))
    low, high = np.quantile(deviations, [0.025, 0.975], axis=0)
    of_input, of_label = whole.input.value, whole.label.value
    return (of_input - high[0], of_input - low[0]), (of_label - high[1], of_label - low[1])

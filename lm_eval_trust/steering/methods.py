"""Methods that find a direction in labelled activations.

Each of ours returns the projection of the difference of class means on the axis that it finds. So
every direction points from y = 0 to y = 1, and its length is by how much the classes differ along
it, which makes the same α comparable between methods; for the mass mean this is the difference of
means itself.

Another package adds a method by an entry point of the group ``lm_eval_trust.direction_methods``
that names a :class:`DirectionMethod`. A method may find further tensors for an action that needs
them, as ``leace`` does for ``erase``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.registry import Registry

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages list the methods.
    from lm_eval_trust.steering.reft import Lesson

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
#: A direction to the trustworthy side, shape (hidden,), and further tensors by name.
Trained = tuple[Floats, dict[str, Floats]]


@dataclass(frozen=True)
class DirectionMethod:
    """A way to find a direction, in activations or by training.

    Attributes:
        find: (activations (n, hidden), labels (n,) of 0 and 1, group of each item) → direction
            (hidden,), float64, from y = 0 to y = 1. There are items of both labels. ``None`` for a
            method that is trained.
        summary: One line for help pages.
        parts: Name of a further tensor → what finds it: (activations, labels) → float64. Where
            the direction is reversed, so are the labels. ``None`` for what training gives.
        train: For a method that needs the model: statements → direction to the trustworthy side,
            and the tensors of ``parts``.
        reads: Statements that training reads at each layer, forwards and back.
    """

    find: Callable[[Floats, Labels, Sequence[str]], Floats] | None
    summary: str
    parts: Mapping[str, Callable[[Floats, Labels], Floats] | None] = field(default_factory=dict)
    train: Callable[[Lesson], Trained] | None = None
    reads: int = 0

    def __post_init__(self) -> None:
        if (self.find is None) == (self.train is None):
            raise InputError(f"A direction method either finds or trains: {self.summary!r}.")


def find_direction(
    method: str, activations: npt.NDArray[Any], labels: Labels, groups: Sequence[str]
) -> Floats:
    """Return the direction that a method finds, float64, shape (hidden,).

    Args:
        method: Name of a method, see :data:`METHODS`.
        activations: Shape (n, hidden), any floating type; computed in float64.
        labels: 0 or 1, shape (n,).
        groups: Group of each item, for methods that compare within groups.

    Raises:
        InputError: Unknown method or one that is trained, a class without items, no group with
            both classes for ``pca``, or a foreign method returned something else than a finite
            direction.
    """
    found = METHODS[method]
    if found.find is None:
        raise InputError(f"The method {method} is trained, and needs the model: see build_vector.")
    check_labels(labels)
    activations = np.asarray(activations, dtype=np.float64)
    direction = np.asarray(found.find(activations, labels, groups), dtype=np.float64)
    if direction.shape != activations.shape[1:] or not np.isfinite(direction).all():
        raise InputError(
            f"The direction method {method!r} returned shape {direction.shape} or values that are "
            f"not finite; expected finite values of shape {activations.shape[1:]}."
        )
    return direction


def check_labels(labels: Labels) -> None:
    """Raise unless there are items of both labels.

    Raises:
        InputError: A label has no items.
    """
    counts = int((labels == 0).sum()), int((labels == 1).sum())
    if min(counts) == 0:
        raise InputError(
            f"A direction needs items of both labels; there are {counts[0]} with y = 0 and "
            f"{counts[1]} with y = 1."
        )


def mass_mean(activations: Floats, labels: Labels, groups: Sequence[str]) -> Floats:
    """Difference of class means (arXiv 2402.19465, eq. 1; Marks and Tegmark 2023)."""
    difference: Floats = activations[labels == 1].mean(axis=0) - activations[labels == 0].mean(
        axis=0
    )
    return difference


def pca(activations: Floats, labels: Labels, groups: Sequence[str]) -> Floats:
    """First principal component of paired differences within groups (after Zou et al. 2023).

    A group's pair is the mean of its positives and the mean of its negatives; groups with one
    label only are left out. Each pair counts in both orders, so the differences have mean zero
    and their principal component is the first right singular vector of the uncentred differences.
    """
    differences = paired_differences(activations, labels, groups)
    if len(differences) == 0:
        raise InputError(
            "pca compares positives and negatives of the same group, and no group has both; use "
            "method mass_mean or logistic."
        )
    return _along(_first_right_singular_vector(differences), activations, labels)


def logistic(activations: Floats, labels: Labels, groups: Sequence[str]) -> Floats:
    """Gradient of an L2-regularised logistic regression's logit (C = 1, standardised inputs)."""
    from sklearn.linear_model import LogisticRegression

    spread = activations.std(axis=0)
    spread[spread == 0] = 1.0
    standardised = (activations - activations.mean(axis=0)) / spread
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(standardised, labels)
    gradient = fitted.coef_[0] / spread
    return _along(gradient / np.linalg.norm(gradient), activations, labels)


def covector(activations: Floats, labels: Labels) -> Floats:
    """What a least-squares fit reads a binary concept by, scaled to go with the mass mean.

    LEACE erases by x − W⁺ P W (x − μ), where W = (Σₓₓ^½)⁺ and P projects on W Σₓz (Belrose et al.
    2023, theorem 4.2). For one binary label Σₓz is a multiple of the difference of class means δ,
    so the rest is x − ⟨k, x − μ⟩ u with u = δ / |δ| and k = |δ| Σₓₓ⁺ δ / ⟨δ, Σₓₓ⁺ δ⟩. And Σₓₓ⁺ δ is
    proportional to the smallest solution of regressing the centred labels on the centred
    activations.

    Returns:
        k, shape (hidden,), with ⟨k, u⟩ = 1. Zero where the two labels' means do not differ.
    """
    centred = activations - activations.mean(axis=0)
    # Activations are known to single precision: smaller singular values are rounding.
    rcond = float(np.finfo(np.float32).eps)
    solution: Floats = np.linalg.lstsq(centred, labels - labels.mean(), rcond=rcond)[0]
    difference = mass_mean(activations, labels, ())
    along = solution @ difference
    return solution * (np.linalg.norm(difference) / along) if along > 0 else 0 * solution


def mean(activations: Floats, labels: Labels) -> Floats:
    """Mean of all activations, shape (hidden,)."""
    found: Floats = activations.mean(axis=0)
    return found


def _reft_r1(lesson: Lesson) -> Trained:
    from lm_eval_trust.steering.reft import train_reft_r1

    return train_reft_r1(lesson)


def _loreft(lesson: Lesson) -> Trained:
    from lm_eval_trust.steering.reft import train_loreft

    return train_loreft(lesson)


METHODS: Registry[DirectionMethod] = Registry(
    "method",
    "lm_eval_trust.direction_methods",
    DirectionMethod,
    {
        "mass_mean": DirectionMethod(mass_mean, "difference of class means (arXiv 2402.19465)"),
        "pca": DirectionMethod(pca, "first principal component of differences within groups"),
        "logistic": DirectionMethod(logistic, "gradient of a logistic regression's logit"),
        "leace": DirectionMethod(
            mass_mean,
            "difference of class means, with what action erase needs (arXiv 2306.03819)",
            {"covector": covector, "mean": mean},
        ),
        "reft_r1": DirectionMethod(
            None,
            "one direction trained to detect and to steer (ReFT-r1, arXiv 2501.17148)",
            train=_reft_r1,
            reads=640,
        ),
        "loreft": DirectionMethod(
            None,
            "trained, rank 4, with what action reft needs (LoReFT, arXiv 2404.03592)",
            dict.fromkeys(("rotation", "weight", "bias")),
            train=_loreft,
            reads=320,
        ),
    },
)


def _along(axis: Floats, activations: Floats, labels: Labels) -> Floats:
    """Return the difference of class means along a unit axis; the axis' own sign cancels out."""
    along: Floats = (mass_mean(activations, labels, ()) @ axis) * axis
    return along


def paired_differences(activations: Floats, labels: Labels, groups: Sequence[str]) -> Floats:
    """Return mean positive − mean negative of each group with both labels.

    Args:
        activations: Shape (n, hidden).
        labels: 0 or 1, shape (n,).
        groups: Group of each, shape (n,).

    Returns:
        Float64, shape (pairs, hidden).
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((2, len(names), activations.shape[1]))
    counts = np.zeros((2, len(names)))
    np.add.at(sums, (labels, member), activations)
    np.add.at(counts, (labels, member), 1)
    both = counts.min(axis=0) > 0
    means = sums[:, both] / counts[:, both, None]
    paired: Floats = means[1] - means[0]
    return paired


def _first_right_singular_vector(matrix: Floats) -> Floats:
    """Return it by way of the smaller of the two Gram matrices, shape (columns,)."""
    import scipy.linalg

    rows, columns = matrix.shape
    gram = matrix.T @ matrix if columns <= rows else matrix @ matrix.T
    last = len(gram) - 1
    _, vectors = scipy.linalg.eigh(gram, subset_by_index=(last, last))
    axis: Floats = vectors[:, 0] if columns <= rows else matrix.T @ vectors[:, 0]
    axis /= np.linalg.norm(axis)
    return axis

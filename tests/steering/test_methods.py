from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.methods import METHODS, DirectionMethod, find_direction

HIDDEN = 24
#: Those that need activations alone.
FOUND = sorted(name for name, method in METHODS.items() if method.find is not None)


def planted(
    *, pairs: int, noise: float = 1.0, context: float = 1.0, seed: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64], list[str]]:
    """Pairs that differ along one direction of length 3, in noise and a context of their own."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=HIDDEN)
    direction *= 3 / np.linalg.norm(direction)
    labels = np.tile([0, 1], pairs)
    contexts = np.repeat(rng.normal(size=(pairs, HIDDEN)) * context, 2, axis=0)
    activations = contexts + noise * rng.normal(size=(2 * pairs, HIDDEN))
    activations += labels[:, None] * direction + 5.0
    return direction, activations, labels, [str(i // 2) for i in range(2 * pairs)]


def cosine(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


@pytest.mark.parametrize("method", FOUND)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_planted_direction_is_recovered(method: str, dtype: Any) -> None:
    direction, activations, labels, groups = planted(pairs=6000)
    found = find_direction(method, activations.astype(dtype), labels, groups)
    assert found.dtype == np.float64
    assert cosine(found, direction) > 0.99
    assert np.linalg.norm(found) == pytest.approx(3, rel=0.05)


def test_pairs_recover_what_contexts_drown() -> None:
    direction, activations, labels, groups = planted(pairs=100, noise=0.3, context=10.0)
    rng = np.random.default_rng(1)
    lonely = rng.normal(size=(100, HIDDEN)) * 10
    activations = np.vstack([activations, lonely])
    labels = np.concatenate([labels, np.ones(100, dtype=np.int64)])
    groups = [*groups, *(f"lonely {i}" for i in range(100))]
    assert cosine(find_direction("pca", activations, labels, groups), direction) > 0.99
    assert cosine(find_direction("mass_mean", activations, labels, groups), direction) < 0.99


@pytest.mark.parametrize("method", FOUND)
def test_swapped_labels_turn_the_direction_round(method: str) -> None:
    _, activations, labels, groups = planted(pairs=60)
    forth = find_direction(method, activations, labels, groups)
    back = find_direction(method, activations, 1 - labels, groups)
    np.testing.assert_allclose(back, -forth, atol=1e-3)


@pytest.mark.parametrize("method", FOUND)
def test_order_of_items_and_a_common_shift_do_not_matter(method: str) -> None:
    _, activations, labels, groups = planted(pairs=60)
    order = np.random.default_rng(2).permutation(len(labels))
    expected = find_direction(method, activations, labels, groups)
    found = find_direction(
        method, activations[order] + 7.0, labels[order], [groups[i] for i in order]
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_mass_mean_by_hand() -> None:
    activations = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    found = find_direction("mass_mean", activations, np.array([0, 0, 1]), ["a", "b", "c"])
    np.testing.assert_array_equal(found, [-2.0, 5.0])


def test_pca_by_hand() -> None:
    # Differences (3, 1), (3, -1), (6, 0): second moment diag(54, 2), so the axis is the first.
    activations = np.array([[0, 0], [3, 1], [9, 9], [12, 8], [1, 1], [7, 1]], dtype=float)
    labels = np.array([0, 1, 0, 1, 0, 1])
    found = find_direction("pca", activations, labels, ["a", "a", "b", "b", "c", "c"])
    np.testing.assert_allclose(found, [4.0, 0.0], atol=1e-12)


def test_pca_is_the_same_by_either_gram_matrix() -> None:
    _, activations, labels, groups = planted(pairs=HIDDEN - 4, noise=0.5)
    differences = activations[1::2] - activations[::2]
    axis = np.linalg.svd(differences)[2][0]
    assert abs(cosine(find_direction("pca", activations, labels, groups), axis)) > 1 - 1e-9
    twice = np.vstack([activations, activations])
    named = [*groups, *(f"{group} again" for group in groups)]
    found = find_direction("pca", twice, np.tile(labels, 2), named)
    assert abs(cosine(found, axis)) > 1 - 1e-9


def test_logistic_is_stationary() -> None:
    # Independent of the solver: at the optimum, w = C Σ (y − p) x for standardised x.
    _, activations, labels, groups = planted(pairs=50, noise=2.0)
    found = find_direction("logistic", activations, labels, groups)
    x = (activations - activations.mean(0)) / activations.std(0)
    w, b = np.zeros(HIDDEN), 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ w + b)))
        design = np.hstack([x, np.ones((len(x), 1))])
        gradient = design.T @ (p - labels) + np.append(w, 0)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag([*np.ones(HIDDEN), 0])
        step = np.linalg.solve(hessian, gradient)
        w, b = w - step[:-1], b - step[-1]
    assert cosine(found, w / activations.std(0)) > 0.9999


def test_a_constant_feature_does_no_harm() -> None:
    _, activations, labels, groups = planted(pairs=40)
    activations[:, 0] = 4.0
    assert find_direction("logistic", activations, labels, groups)[0] == 0


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'mass_mean'"):
        find_direction("mass_means", np.ones((2, 2)), np.array([0, 1]), ["a", "b"])


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(InputError, match="0 with y = 0 and 2 with y = 1"):
        find_direction("mass_mean", np.ones((2, 2)), np.array([1, 1]), ["a", "b"])


def test_pca_without_pairs_is_refused() -> None:
    with pytest.raises(InputError, match="no group has both"):
        find_direction("pca", np.eye(2), np.array([0, 1]), ["a", "b"])


def test_a_method_that_is_added_has_to_return_a_direction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, groups = np.array([0, 1]), ["a", "b"]
    activations = np.array([[1.0, 2.0], [3.0, 5.0]])
    found = DirectionMethod(lambda a, y, g: a[y == 1][0], "the first positive")
    monkeypatch.setitem(METHODS._entries, "first", found)
    assert find_direction("first", activations, labels, groups).tolist() == [3.0, 5.0]
    for wrong in ([1.0], [1.0, float("nan")]):
        monkeypatch.setitem(
            METHODS._entries, "first", DirectionMethod(lambda a, y, g, w=wrong: np.array(w), "")
        )
        with pytest.raises(InputError, match="The direction method 'first' returned"):
            find_direction("first", activations, labels, groups)

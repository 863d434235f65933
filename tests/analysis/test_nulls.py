"""Permutation nulls: against loops over their permutations, the groups they keep, level, power."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.analysis.kernels import gaussian_gram
from lm_eval_trust.analysis.nulls import (
    Exchangeability,
    permutation_null,
    permuted_labels,
    rank_one_null,
)
from lm_eval_trust.core.errors import InputError

#: Groups of one label (a, b, c), of both (d, e), and rows by themselves, out of order.
GROUPS = [*"dabdcaebcee", "f", "g"]
LABELS = np.array([0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 1])


def symmetric(n: int, seed: int) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n)))
    return values + values.T


@pytest.mark.parametrize("n", [3, 8, 31, 60])
def test_it_equals_a_loop_over_its_permutations(n: int) -> None:
    a, b = symmetric(n, 0), symmetric(n, 1)
    found = permutation_null(a, b, permutations=n, seed=5)
    order = torch.from_numpy(np.random.default_rng(5).permutation(n))
    null = []
    for shift in range(1, n):
        # The sample at each place of the order takes the place of the one `shift` further on.
        target = torch.empty(n, dtype=torch.long)
        target[order] = order.roll(-shift)
        null.append((a * b[target][:, target]).sum().item())
    value = (a * b).sum().item()
    assert found.permutations == n - 1
    assert found.value == pytest.approx(value)
    assert found.mean == pytest.approx(np.mean(null))
    assert found.quantile95 == pytest.approx(np.quantile(null, 0.95))
    assert found.p == pytest.approx((1 + sum(v >= value for v in null)) / n)
    assert found.smallest_p == pytest.approx(1 / n)


@pytest.mark.parametrize("groups", [7, 10])
def test_groups_of_one_size_are_shifted_as_a_whole(groups: int) -> None:
    n = 3 * groups
    a, b = symmetric(n, 0), symmetric(n, 1)
    names = np.random.default_rng(4).permutation(np.repeat(np.arange(groups), 3))
    exchange = Exchangeability.of_rows(n, names.tolist())
    found = permutation_null(a, b, exchange, permutations=n, seed=5)
    rows = {name: np.flatnonzero(names == name) for name in names}
    first = list(dict.fromkeys(names))
    order = [first[i] for i in np.random.default_rng(5).permutation(groups)]
    null = []
    for shift in range(1, groups):
        target = np.empty(n, dtype=int)
        for place, name in enumerate(order):
            target[rows[name]] = rows[order[(place + shift) % groups]]
        null.append((a * b[target][:, target]).sum().item())
    assert found.mean == pytest.approx(np.mean(null))
    assert sorted(found.drawn) == pytest.approx(sorted(null))
    assert found.smallest_p == pytest.approx(1 / groups)


def test_groups_of_each_size_are_shifted_among_themselves() -> None:
    sizes = np.random.default_rng(7).permutation([1] * 5 + [2] * 6 + [4] * 3)
    names = np.random.default_rng(4).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(names)
    a, b = symmetric(n, 0), symmetric(n, 1)
    exchange = Exchangeability.of_rows(n, names.tolist())
    found = permutation_null(a, b, exchange, permutations=80, seed=5)
    random = np.random.default_rng(5)
    orders = [blocks[random.permutation(len(blocks))] for blocks in exchange.whole]
    null = []
    for shifts in random.integers([5, 6, 3], size=(80, 3)):
        target = np.empty(n, dtype=int)
        for order, shift in zip(orders, shifts, strict=True):
            target[order] = np.roll(order, -shift, axis=0)
        null.append((a * b[target][:, target]).sum().item())
    assert found.drawn == pytest.approx(np.array(null))
    assert found.smallest_p == pytest.approx(1 / 81)


def test_the_level_where_groups_have_several_sizes() -> None:
    groups = np.repeat(np.arange(24), [1] * 8 + [2] * 9 + [5] * 7)
    exchange, random = (
        Exchangeability.of_rows(len(groups), groups.tolist()),
        np.random.default_rng(12),
    )
    found = []
    for seed in range(300):
        sides = random.normal(size=(2, 24, 3))[:, groups] + 0.1 * random.normal(
            size=(2, len(groups), 3)
        )
        grams = [gaussian_gram(torch.from_numpy(side), 2.0) for side in sides]
        found.append(permutation_null(*grams, exchange, permutations=99, seed=seed).p)
    assert abs(np.mean(np.array(found) <= 0.05) - 0.05) < 0.035
    assert abs(np.mean(found) - 0.5) < 0.06


def test_groups_of_several_sizes_and_labels_equal_loops() -> None:
    n = len(GROUPS)
    a, u = symmetric(n, 0), torch.from_numpy(LABELS - LABELS.mean())
    for exchange in (Exchangeability.of_rows(n, GROUPS), Exchangeability.of_labels(LABELS, GROUPS)):
        drawn = torch.from_numpy(exchange.vectors(u.numpy(), 50, np.random.default_rng(3)))
        null = [float(v @ a @ v) for v in drawn]
        value = float(u @ a @ u)
        dense = permutation_null(a, torch.outer(u, u), exchange, permutations=50, seed=3)
        direct = rank_one_null(a, u, 2.0, exchange, permutations=50, seed=3)
        for found, scale in ((dense, 1.0), (direct, 2.0)):
            assert found.value == pytest.approx(scale * value)
            assert found.drawn == pytest.approx(scale * np.array(null))
            reached = sum(v >= value - 1e-9 for v in null)
            assert found.p == pytest.approx(max(exchange.smallest_p(50), (1 + reached) / 51))


def test_any_matrix_of_the_labels_has_its_groups_mirrored() -> None:
    n = len(GROUPS)
    a, b = symmetric(n, 0), symmetric(n, 1)
    exchange = Exchangeability.of_labels(LABELS, GROUPS)
    found = permutation_null(a, b, exchange, permutations=30, seed=3)
    names, null = np.array(GROUPS), []
    for places, signs in zip(*exchange.moves(30, np.random.default_rng(3)), strict=True):
        # The reflection of each group about its mean, as a matrix.
        mean = sum(np.outer(names == g, names == g) / (names == g).sum() for g in "de")
        alone = np.diag([name not in "de" for name in names])
        about = np.eye(n) - alone - mean
        turned = (alone + mean + np.diag(signs) @ about)[places]
        null.append(np.trace(a.numpy() @ turned @ b.numpy() @ turned.T))
    assert found.drawn == pytest.approx(np.array(null))


def arrangements(labels: Sequence[int], groups: Sequence[str]) -> set[tuple[int, ...]]:
    """Every labelling that groups allow, by trying all."""
    rows = {g: [i for i, name in enumerate(groups) if name == g] for g in groups}

    def allowed(other: tuple[int, ...]) -> bool:
        moved = []
        for at in rows.values():
            before, after = [labels[i] for i in at], [other[i] for i in at]
            if len(set(before)) == 2 and after not in (before, [1 - label for label in before]):
                return False
            if len(set(before)) == 1 and len(set(after)) == 2:
                return False
            if len(set(before)) == 1:
                moved.append((len(at), before[0], after[0]))
        return all(
            sum(m[1] for m in moved if m[0] == size) == sum(m[2] for m in moved if m[0] == size)
            for size in {m[0] for m in moved}
        )

    found = itertools.product((0, 1), repeat=len(labels))
    return {other for other in found if allowed(other)}


def test_labels_take_every_place_that_groups_allow_and_no_other() -> None:
    possible = arrangements(LABELS.tolist(), GROUPS)
    exchange = Exchangeability.of_labels(LABELS, GROUPS)
    # Two of three pairs hold ones; d and e have 2 sides; f and g change places.
    assert exchange.arrangements == len(possible) == 3 * 2 * 2 * 2
    drawn = exchange.labelings(LABELS == 1, 600, np.random.default_rng(0))
    assert {tuple(each) for each in drawn.astype(int).tolist()} == possible


def test_other_labelings_are_neither_the_true_one_nor_its_mirror_image() -> None:
    labels, pairs = np.array([0, 1, 0, 1, 0, 1]), [*"aabbcc"]
    random, true = np.random.default_rng(0), (0, 1, 0, 1, 0, 1)
    drawn = {tuple(permuted_labels(labels, pairs, random).tolist()) for _ in range(200)}
    mirrored = tuple(1 - label for label in true)
    assert drawn == arrangements(labels.tolist(), pairs) - {true, mirrored}
    with pytest.raises(InputError, match="no other labeling"):
        permuted_labels(labels, [*"aaaaaa"], random)


def test_rows_move_with_their_group_and_keep_its_order() -> None:
    exchange = Exchangeability.of_rows(len(GROUPS), GROUPS)
    names = np.array(GROUPS)
    for rows in exchange.moves(20, np.random.default_rng(1))[0]:
        assert sorted(rows) == list(range(len(GROUPS)))
        for group in set(GROUPS):
            taken = rows[names == group]
            assert len(set(names[taken])) == 1
            assert list(taken) == sorted(taken)


def test_the_smallest_p_is_that_of_the_design() -> None:
    pairs = [f"g{i // 2}" for i in range(8)]
    labels = np.arange(8) % 2
    exchange = Exchangeability.of_labels(labels, pairs)
    assert exchange.arrangements == 2**4 and exchange.mirrored
    x = np.random.default_rng(0).normal(size=(8, 2)) + 50 * labels[:, None]
    settings = InformationSettings(sigma=2.0, permutations=500)
    found = InformationPlane(x, labels, settings, groups=pairs).measure(x)
    # Both of the two mirror images tell the pairs apart, so half as small a p is out of reach.
    assert 2 / 16 == found.label.smallest_p == found.label.p
    assert found.input.smallest_p == 1 / 4
    alone = InformationPlane(x, labels, settings, groups=["one"] * 8).measure(x)
    assert (alone.input.p, alone.input.smallest_p, alone.input.permutations) == (1.0, 1.0, 0)
    assert alone.label.smallest_p == alone.label.p == 1.0
    assert alone.input.value > 0


@pytest.mark.parametrize(
    ("labels", "groups", "smallest"),
    [
        # Four groups of one label each: two of six orders have the same sides.
        ([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1], [*"aaabbbcccddd"], 2 / 6),
        # One of three is the higher one: no order is the mirror image of another.
        ([0, 0, 0, 0, 1, 1], [*"aabbcc"], 1 / 3),
        # As many right answers to each question, and unequal numbers of them.
        ([0, 0, 1] * 4, [*"aaabbbcccddd"], 2 / 16),
        ([0, 0, 1] * 3 + [0, 1, 1], [*"aaabbbcccddd"], 1 / 16),
    ],
)
def test_no_smaller_p_is_reached(labels: list[int], groups: list[str], smallest: float) -> None:
    exchange, n = Exchangeability.of_labels(labels, groups), len(labels)
    u = np.array(labels) - np.mean(labels)
    values = {
        tuple(np.round(vector, 9)) for vector in exchange.vectors(u, 500, np.random.default_rng(0))
    }
    assert len(values) == exchange.arrangements
    a = symmetric(n, 0).numpy()
    forms = [np.array(vector) @ a @ np.array(vector) for vector in values]
    assert exchange.smallest_p(10**6) == pytest.approx(smallest)
    assert np.mean(np.array(forms) >= max(forms) - 1e-9) == pytest.approx(smallest)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_groups_may_be_arrays_and_tensors(kind: Callable[[list[int]], Any]) -> None:
    groups, labels = np.repeat(np.arange(10), 4).tolist(), np.arange(40) // 4 % 2
    x, t = np.random.default_rng(0).normal(size=(2, 40, 3))
    settings = InformationSettings(sigma=2.0)
    measured = [
        InformationPlane(x, labels, settings, groups=given).measure(t)
        for given in (groups, kind(groups))
    ]
    assert measured[0] == measured[1] and measured[0].input.smallest_p == 1 / 10


def p_values(runs: int, size: int, *, mixed: bool, signal: float = 0.0) -> np.ndarray:
    """p of both sides where 20 groups have their own means, and labels lie apart by a signal."""
    random, groups = np.random.default_rng(11), np.repeat(np.arange(20), size)
    settings = InformationSettings(estimator="hsic", sigma=2.0, permutations=99)
    found = []
    for _ in range(runs):
        sides = [
            random.normal(size=(20, 3))[groups] + 0.1 * random.normal(size=(20 * size, 3))
            for _ in range(2)
        ]
        if mixed:
            labels = np.concatenate([random.permutation(np.arange(size) % 2) for _ in range(20)])
        else:
            labels = random.permutation(np.arange(20) % 2)[groups]
        sides[1] += 0.1 * signal * labels[:, None]
        plane = InformationPlane(sides[0], labels, settings, groups=groups)
        measured = plane.measure(sides[1])
        found.append((measured.input.p, measured.label.p))
    return np.array(found)


def p_of_clusters(runs: int, sides: tuple[int, int], signal: float = 0.0) -> np.ndarray:
    """p of I(T, Y) where the answers of a side paraphrase each other, and sides lie anywhere, or
    along one direction by a signal."""
    random, found = np.random.default_rng(5), []
    labels, questions = np.tile(np.repeat([0, 1], sides), 30), np.repeat(np.arange(30), sum(sides))
    place = 2 * questions + labels
    for _ in range(runs):
        means = random.normal(size=(60, 8)) + random.normal(size=(30, 8)).repeat(2, axis=0)
        layer = means[place] + 0.5 * random.normal(size=(len(labels), 8))
        layer[:, 0] += signal * labels
        plane = InformationPlane(layer, labels, InformationSettings(sigma=2.0), groups=questions)
        found.append(plane.measure(layer).label.p)
    return np.array(found)


@pytest.mark.parametrize("sides", [(2, 3), (3, 3)])
def test_the_level_where_the_answers_of_a_side_resemble_each_other(sides: tuple[int, int]) -> None:
    found = p_of_clusters(200, sides)
    # Standard error of a rate of 0.05 over 200 runs: 0.015.
    assert abs(np.mean(found <= 0.05) - 0.05) < 0.045
    assert abs(np.mean(found) - 0.5) < 0.07


def test_a_direction_that_all_questions_share_is_found() -> None:
    assert (p_of_clusters(30, (2, 3), signal=3.0) <= 0.05).mean() > 0.9


@pytest.mark.parametrize(("size", "mixed"), [(2, True), (3, False)])
def test_the_level_where_rows_of_a_group_are_nearly_the_same(size: int, mixed: bool) -> None:
    found = p_values(300, size, mixed=mixed)
    # Standard error of a rate of 0.05 over 300 runs: 0.013. Means near one half: no deflation.
    assert (np.abs((found <= 0.05).mean(axis=0) - 0.05) < 0.035).all()
    assert (np.abs(found.mean(axis=0) - 0.5) < 0.06).all()


def test_a_signal_inside_pairs_is_found() -> None:
    assert (p_values(60, 2, mixed=True, signal=1.5)[:, 1] <= 0.05).mean() > 0.8


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3"):
        permutation_null(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(InputError, match="of one size"):
        permutation_null(torch.ones(3, 3), torch.ones(4, 4))
    with pytest.raises(InputError, match="2 groups were given for 4 rows"):
        InformationPlane(np.ones((4, 2)), [1, 0, 1, 0], groups=["a", "b"])

"""Permutation nulls: against loops over their permutations, the groups they keep, level, power."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

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
        drawn = exchange.permutations(50, np.random.default_rng(3))
        null = [float(u[list(rows)] @ a @ u[list(rows)]) for rows in drawn]
        value = float(u @ a @ u)
        dense = permutation_null(a, torch.outer(u, u), exchange, permutations=50, seed=3)
        direct = rank_one_null(a, u, 2.0, exchange, permutations=50, seed=3)
        for found, scale in ((dense, 1.0), (direct, 2.0)):
            assert found.value == pytest.approx(scale * value)
            assert found.drawn == pytest.approx(scale * np.array(null))
            reached = sum(v >= value - 1e-9 for v in null)
            assert found.p == pytest.approx(max(exchange.smallest_p(50), (1 + reached) / 51))


def arrangements(labels: Sequence[int], groups: Sequence[str]) -> set[tuple[int, ...]]:
    """Every labelling of the same number of ones that groups allow, by trying all."""
    rows = {g: [i for i, name in enumerate(groups) if name == g] for g in groups}

    def allowed(other: tuple[int, ...]) -> bool:
        moved = {}
        for group, at in rows.items():
            before, after = [labels[i] for i in at], [other[i] for i in at]
            if len(set(before)) == 2 and sum(before) != sum(after):
                return False
            if len(set(before)) == 1 and len(set(after)) == 2:
                return False
            moved[group] = (len(at), before[0], after[0]) if len(set(before)) == 1 else None
        kept = [m for m in moved.values() if m]
        return all(
            sum(m[1] for m in kept if m[0] == size) == sum(m[2] for m in kept if m[0] == size)
            for size in {m[0] for m in kept}
        )

    found = itertools.product((0, 1), repeat=len(labels))
    return {other for other in found if allowed(other)}


def test_labels_take_every_place_that_groups_allow_and_no_other() -> None:
    possible = arrangements(LABELS.tolist(), GROUPS)
    exchange = Exchangeability.of_labels(LABELS, GROUPS)
    # Two of three pairs hold ones; d has 2 orders, e 3; f and g change places.
    assert exchange.arrangements == len(possible) == 3 * 2 * 3 * 2
    random = np.random.default_rng(0)
    seen = {tuple(permuted_labels(LABELS, GROUPS, random).tolist()) for _ in range(600)}
    assert seen == possible


def test_rows_move_with_their_group_and_keep_its_order() -> None:
    exchange = Exchangeability.of_rows(len(GROUPS), GROUPS)
    names = np.array(GROUPS)
    for rows in exchange.permutations(20, np.random.default_rng(1)):
        assert sorted(rows) == list(range(len(GROUPS)))
        for group in set(GROUPS):
            taken = rows[names == group]
            assert len(set(names[taken])) == 1
            assert list(taken) == sorted(taken)


def test_the_smallest_p_is_that_of_the_design() -> None:
    pairs = [f"g{i // 2}" for i in range(8)]
    labels = np.arange(8) % 2
    exchange = Exchangeability.of_labels(labels, pairs)
    assert exchange.arrangements == 2**4
    x = np.random.default_rng(0).normal(size=(8, 2)) + 50 * labels[:, None]
    settings = InformationSettings(sigma=2.0, permutations=500)
    found = InformationPlane(x, labels, settings, groups=pairs).measure(x)
    # Both of the two mirror images tell the pairs apart.
    assert 1 / 16 == found.label.smallest_p <= found.label.p < 0.2
    assert found.input.smallest_p == 1 / 4
    alone = InformationPlane(x, labels, settings, groups=["one"] * 8).measure(x)
    assert (alone.input.p, alone.input.smallest_p, alone.input.permutations) == (1.0, 1.0, 0)
    assert alone.input.value > 0


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

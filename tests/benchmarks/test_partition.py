from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.benchmarks.partition import SPLITS, partition
from lm_eval_trust.core.errors import InputError

group_lists = st.lists(st.sampled_from([f"g{i}" for i in range(12)]), min_size=2).filter(
    lambda groups: len(set(groups)) >= 2
)
seeds = st.integers(0, 5)


@given(group_lists, st.sampled_from(SPLITS), seeds)
def test_every_item_is_in_exactly_one_part(groups: list[str], split: str, seed: int) -> None:
    parts = partition(groups, split=split, seed=seed)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(len(groups)))
    assert parts.part("all").tolist() == list(range(len(groups)))


@given(group_lists, seeds)
def test_no_group_straddles_a_grouped_split(groups: list[str], seed: int) -> None:
    parts = partition(groups, seed=seed)
    sides = [{groups[i] for i in side} for side in (parts.train, parts.validation, parts.test)]
    assert len(set.union(*sides)) == sum(map(len, sides))


@given(group_lists, seeds)
def test_random_halves_the_items(groups: list[str], seed: int) -> None:
    parts = partition(groups, split="random", seed=seed)
    development = (len(groups) + 1) // 2
    assert len(parts.development) == development
    assert len(parts.validation) == development // 5


@pytest.mark.parametrize(("groups", "train", "validation", "test"), [(817, 328, 81, 408)])
def test_ratios_hold_for_groups(groups: int, train: int, validation: int, test: int) -> None:
    parts = partition([f"q{i}" for i in range(groups)])
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (train, validation, test)


@given(group_lists, seeds)
def test_the_order_of_items_does_not_matter(groups: list[str], seed: int) -> None:
    forward = partition(groups, seed=seed)
    backward = partition(groups[::-1], seed=seed)
    assert {groups[i] for i in forward.test} == {groups[::-1][i] for i in backward.test}


def test_another_seed_deals_otherwise() -> None:
    groups = [f"g{i}" for i in range(100)]
    tests = {tuple(partition(groups, seed=seed).test) for seed in range(5)}
    assert len(tests) == 5


@given(group_lists, group_lists, seeds)
def test_sets_with_one_universe_agree(one: list[str], other: list[str], seed: int) -> None:
    universe = [frozenset(f"g{i}" for i in range(12))]
    first = partition(one, seed=seed, universe=universe)
    second = partition(other, seed=seed, universe=universe)
    development = {one[i] for i in first.development}
    assert development.isdisjoint(other[i] for i in second.test)


def test_sets_split_over_their_own_groups_can_disagree() -> None:
    everything = [f"g{i}" for i in range(40)]
    fewer = [everything[i] for i in partition(everything).test]
    development = {fewer[i] for i in partition(fewer).development}
    assert len(development & {everything[i] for i in partition(everything).test}) == 10


def test_a_stratum_is_halved_in_itself_and_moves_no_other() -> None:
    official, extra = [f"g{i}" for i in range(20)], [f"x{i}" for i in range(10)]
    alone = partition(official, universe=[official])
    both = partition(official + extra, universe=[official, extra])
    assert {i for i in both.test if i < 20} == set(alone.test)
    assert sum(i >= 20 for i in both.test) == 5


def test_a_group_outside_the_universe_is_an_error() -> None:
    with pytest.raises(InputError, match="outside the benchmark's universe"):
        partition(["a", "b", "stranger"], universe=[{"a", "b"}])


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "a", "a"]])
def test_too_few_groups_are_an_error(groups: list[str]) -> None:
    with pytest.raises(InputError, match="at least 2"):
        partition(groups)


def test_unknown_split_and_part() -> None:
    with pytest.raises(InputError, match="Did you mean 'grouped'"):
        partition(["a", "b"], split="group")
    with pytest.raises(InputError, match="Unknown part 'dev'"):
        partition(["a", "b"]).part("dev")

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lm_eval_trust.models.activations import Row, batches, sequence_rows, tree_rows

# Few different tokens, so that common beginnings, prefixes and duplicates occur.
IDS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=12)


def path_of(row: Row, end: int) -> list[int]:
    """Follow the parents from a statement's last token to its first."""
    path = [end]
    while row.parents[path[-1]] >= 0:
        path.append(row.parents[path[-1]])
    return path[::-1]


@given(IDS)
def test_every_statement_can_be_read_off_its_tree(ids: list[list[int]]) -> None:
    read: dict[int, list[int]] = {}
    for row in tree_rows(ids):
        for statement, end in row.ends.items():
            path = path_of(row, end)
            read[statement] = [row.tokens[token] for token in path]
            assert list(row.depths()[path]) == list(range(len(path)))
            assert row.sees()[end].nonzero()[0].tolist() == path
    assert [read[statement] for statement in range(len(ids))] == ids


@given(IDS)
def test_trees_never_need_more_tokens_than_sequences(ids: list[list[int]]) -> None:
    assert sum(map(len, tree_rows(ids))) <= sum(map(len, ids))


def test_a_common_beginning_is_kept_once() -> None:
    (row,) = tree_rows([[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8]])
    assert sorted(row.tokens) == [5, 6, 7, 8, 9]
    assert row.branches


def test_statements_without_a_common_beginning_stay_apart() -> None:
    assert [row.branches for row in tree_rows([[1, 2, 3], [4, 5], [6]])] == [False] * 3


def test_a_shared_first_token_alone_does_not_join_long_statements() -> None:
    assert len(tree_rows([[1, *range(10, 20)], [1, *range(30, 40)]])) == 2


@given(IDS, st.integers(1, 30))
def test_batches_hold_every_row_once_within_the_budget(ids: list[list[int]], tokens: int) -> None:
    rows = sequence_rows(ids)
    made = list(batches(rows, tokens=tokens))
    assert sorted(id(row) for batch in made for row in batch) == sorted(map(id, rows))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= tokens
    lengths = [len(row) for batch in made for row in batch]
    assert lengths == sorted(lengths)

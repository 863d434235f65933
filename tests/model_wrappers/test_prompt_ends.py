"""Where prompts end in the harness's batches: by hand, for requests of a few tokens."""

from __future__ import annotations

import pytest
import torch

from lm_eval_trust.model_wrappers.prompt_ends import (
    model_input,
    prompt_ends_of,
    rolling_prompt_ends,
    unambiguous_batches,
)


def request(context: list[int], continuation: list[int]) -> tuple[None, list[int], list[int]]:
    return (None, context, continuation)


@pytest.mark.parametrize(
    ("context", "continuation", "fed", "end"),
    [
        # The last token is predicted and never fed; the prompt ends at the last context token.
        ([5, 6, 7], [8], [5, 6, 7], 2),
        ([5, 6, 7], [8, 9], [5, 6, 7, 8], 2),
        ([5], [6, 7, 8, 9], [5, 6, 7, 8], 0),
        # Four tokens fit: what is too much goes from the left.
        ([5, 6, 7, 8], [9], [5, 6, 7, 8], 3),
        ([4, 5, 6, 7, 8], [9], [5, 6, 7, 8], 3),
        ([4, 5, 6], [7, 8, 9], [5, 6, 7, 8], 1),
        ([3, 4], [5, 6, 7, 8], [4, 5, 6, 7], 0),
        # The continuation fills the window: of the context, nothing or less is left.
        ([3], [5, 6, 7, 8, 9], [5, 6, 7, 8], -1),
        ([3], [4, 5, 6, 7, 8, 9], [5, 6, 7, 8], -2),
    ],
)
def test_requests_are_cut_on_the_left_and_end_at_their_last_context_token(
    context: list[int], continuation: list[int], fed: list[int], end: int
) -> None:
    assert model_input(request(context, continuation), 4) == fed
    assert prompt_ends_of([request(context, continuation)], 4) == [end]


def test_only_the_first_window_of_a_text_has_a_prompt() -> None:
    texts = [[5, 6, 7], [5, 6, 7, 8, 9], [5]]
    # Windows of 2 tokens: 2, 3 and 1 of them.
    found = rolling_prompt_ends(texts, prefix_token=1, max_length=2)
    assert found == [0, -1, 0, -1, -1, 0]


def test_rows_are_known_by_their_tokens_whatever_their_padding() -> None:
    requests = [request([5, 6], [7]), request([5, 6, 0], [7]), request([8], [9, 0, 4])]
    ((positions, table),) = unambiguous_batches(requests[:1] + requests[2:], [1, 0], 8)
    assert positions == [0, 1]
    for width in (3, 5):
        rows = torch.zeros(2, width, dtype=torch.int64)
        rows[0, :3] = torch.tensor([8, 9, 0])
        rows[1, :2] = torch.tensor([5, 6])
        assert table.of_rows(rows).tolist() == [0, 1]
    # Padding cannot be told from a zero at the end: [5, 6] and [5, 6, 0] look alike.
    parts = list(unambiguous_batches(requests[:2], [1, 2], 8))
    assert [positions for positions, _ in parts] == [[0], [1]]


def test_equal_tokens_with_other_ends_go_to_other_batches() -> None:
    requests = [
        request([5, 6, 7], [8]),
        request([5, 6], [7, 8]),
        request([9, 6], [7, 8]),
        request([5, 6, 7], [4]),
        request([5], [6, 7, 8]),
        request([5, 6], [7, 4]),
    ]
    ends = prompt_ends_of(requests, 8)
    assert ends == [2, 1, 1, 2, 0, 1]
    parts = list(unambiguous_batches(requests, ends, 8))
    assert [positions for positions, _ in parts] == [[0, 2, 3], [1, 5], [4]]
    row = torch.tensor([[5, 6, 7]])
    assert [table.of_rows(row).tolist() for _, table in parts] == [[2], [1], [0]]


def test_a_row_that_no_request_has_is_an_error() -> None:
    ((_, table),) = unambiguous_batches([request([5, 6], [7])], [1], 8)
    with pytest.raises(KeyError):
        table.of_rows(torch.tensor([[6, 5]]))

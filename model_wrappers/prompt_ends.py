"""Where each row's prompt ends in the harness's log-likelihood batches.

The harness pads these batches on the right with zeros and passes neither lengths nor a mask, so
the wrapper looks a row up by its tokens. Two requests whose tokens are the same but whose prompts
end at different places cannot share a batch, and must not share one forward pass either (the
harness scores one-token continuations of equal tokens together): they go to different batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

TokenRequest = tuple[tuple[str, str] | None, list[int], list[int]]
Key = tuple[int, ...]

#: The harness's padding of log-likelihood batches.
_PADDING = 0


@dataclass(frozen=True)
class PromptEnds:
    """Index of the last prompt token by the tokens of a row, minus its trailing padding."""

    by_tokens: Mapping[Key, int]

    def of_rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the prompt ends of rows of tokens (rows, positions): int64, shape (rows,)."""
        ends = [self.by_tokens[_without_padding(row)] for row in tokens.tolist()]
        return torch.tensor(ends, dtype=torch.int64)


def model_input(request: TokenRequest, max_length: int) -> list[int]:
    """Return the tokens that the harness feeds for a request: cut on the left, minus the last."""
    _, context, continuation = request
    return (context + continuation)[-(max_length + 1) :][:-1]


def prompt_ends_of(requests: Sequence[TokenRequest], max_length: int) -> list[int]:
    """Return the index of each request's last context token in its model input.

    Negative where a long continuation has pushed the whole context out of the window.
    """
    return [len(model_input(request, max_length)) - len(request[2]) for request in requests]


def rolling_prompt_ends(
    texts: Sequence[Sequence[int]], *, prefix_token: int, max_length: int
) -> list[int]:
    """Return the prompt ends of all windows of rolling requests, in the harness's order.

    A text's prompt is the prefix token before its first window (0); later windows have none (−1).
    """
    ends = []
    for tokens in texts:
        windows = list(
            map(
                make_disjoint_window,
                get_rolling_token_windows(
                    token_list=list(tokens),
                    prefix_token=prefix_token,
                    max_seq_len=max_length,
                    context_len=1,
                ),
            )
        )
        ends += [0 if number == 0 else -1 for number in range(len(windows))]
    return ends


def unambiguous_batches(
    requests: Sequence[TokenRequest], ends: Sequence[int], max_length: int
) -> Iterator[tuple[list[int], PromptEnds]]:
    """Divide requests so that within a part the tokens of a row determine where its prompt ends.

    Nearly always there is one part.

    Yields:
        Positions in ``requests``, and the table of their prompt ends.
    """
    parts: list[tuple[list[int], dict[Key, int]]] = []
    for position, (request, end) in enumerate(zip(requests, ends, strict=True)):
        key = _without_padding(model_input(request, max_length))
        for positions, table in parts:
            if table.setdefault(key, end) == end:
                positions.append(position)
                break
        else:
            parts.append(([position], {key: end}))
    for positions, table in parts:
        yield positions, PromptEnds(table)


def _without_padding(tokens: Sequence[int]) -> Key:
    length = len(tokens)
    while length and tokens[length - 1] == _PADDING:
        length -= 1
    return tuple(tokens[:length])

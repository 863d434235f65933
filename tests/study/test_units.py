"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.human_units import format_bytes, format_seconds, parse_bytes, parse_rate


@pytest.mark.parametrize(
    ("text", "size"),
    [("30 GB", 30e9), ("13.5gib", 13.5 * 2**30), (1024, 1024), ("1.5e3 MB", 1.5e9), ("7 B", 7)],
)
def test_sizes(text: object, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "3 XB", "-1 GB", "0", True, None, "1 GB extra"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(InputError, match="is no size"):
        parse_bytes(text)


def test_rates() -> None:
    assert parse_rate("100 MB/s") == parse_rate("100MB") == 100_000_000


def test_what_is_printed() -> None:
    assert [format_bytes(n) for n in (12, 13.5e9, 4.85e12)] == ["12 B", "13.5 GB", "4.8 TB"]
    assert [format_seconds(n) for n in (42, 600, 7200, 864_000)] == [
        "42 s",
        "10 min",
        "2.0 h",
        "10.0 days",
    ]

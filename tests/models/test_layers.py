from __future__ import annotations

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.layers import parse_layers


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("15", [15]),
        ("10-13", [10, 11, 12, 13]),
        ("12,14, 16", [12, 14, 16]),
        ("12+14", [12, 14]),
        ("0-1,5", [0, 1, 5]),
    ],
)
def test_layers_as_users_write_them(text: str, layers: list[int]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "3-", "5-3", "1,,2", "-1", "1.5"])
def test_unreadable_layers_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_layers(text)


def test_a_repeated_layer_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_layers("1-3,2")


def test_a_range_that_no_model_has_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="no model has 10000 blocks"):
        parse_layers("0-999999999")

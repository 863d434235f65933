"""Settings take numbers for numbers, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field

from lm_eval_trust.core.strict_model import StrictModel


class _Settings(StrictModel):
    count: Annotated[int, Field(gt=0)] = 1
    shares: tuple[float, ...] = ()
    limits: dict[str, int] = Field(default_factory=dict)
    size: Annotated[int, BeforeValidator(lambda text: len(str(text)))] = 0
    layers: Literal["all"] | int = "all"
    text: dict[str, str | float] = Field(default_factory=dict)
    random: bool | int = False
    anything: Any = 0


@pytest.mark.parametrize(
    "given",
    [
        {"count": True},
        {"count": "3"},
        {"count": "1_000"},
        {"shares": [0.5, False]},
        {"shares": ["0.5"]},
        {"limits": {"task": "4"}},
        {"limits": {"task": True}},
        {"layers": True},
    ],
)
def test_truth_values_and_texts_are_no_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a number; got"):
        _Settings.model_validate(given)


@pytest.mark.parametrize("key", list(_Settings.model_fields))
def test_nulls_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="there is no value"):
        _Settings.model_validate({key: None})


def test_what_a_field_declares_is_taken() -> None:
    found = _Settings.model_validate(
        {"shares": [1, 0.5], "size": "four", "layers": "all", "text": {"a": "b", "c": 1.5}}
        | {"random": True, "anything": "x", "limits": {"task": 4}}
    )
    assert found.shares == (1.0, 0.5)
    assert (found.size, found.random, found.anything) == (4, True, "x")
    assert found.text == {"a": "b", "c": 1.5}

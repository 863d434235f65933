"""Plans travel through a folder by their content; requests name them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.engine.requests import ARGUMENT, RequestSteering, publish, read_plan
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep


def _plan(**settings: object) -> SteeringPlan:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(4))
    chosen: dict[str, Any] = {"layer": 1, "alpha": 2.0, **settings}
    return SteeringPlan((SteeringStep(vector=vector, **chosen),))


def test_a_published_plan_does_the_same(tmp_path: Path) -> None:
    parts = {"covector": torch.randn(16), "mean": torch.randn(16)}
    plan = _plan(action="erase", parts=parts, layer=2) + _plan(positions="all")
    assert read_plan(tmp_path, publish(plan, tmp_path)).fingerprint == plan.fingerprint


def test_an_unknown_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="knows no steering 0123456789abcdef"):
        read_plan(tmp_path, "0123456789abcdef")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ABC", "x" * 300])
def test_a_name_that_is_no_fingerprint_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the fingerprint of a steering plan"):
        read_plan(tmp_path, name)


def test_a_plan_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    one, other = _plan(), _plan(alpha=3.0)
    publish(one, tmp_path)
    (tmp_path / f"{one.fingerprint}.safetensors").rename(
        tmp_path / f"{other.fingerprint}.safetensors"
    )
    with pytest.raises(InputError, match="was changed after it had been published"):
        read_plan(tmp_path, other.fingerprint)


def test_a_plan_that_is_cut_is_refused(tmp_path: Path) -> None:
    plan = _plan()
    path = tmp_path / f"{plan.fingerprint}.safetensors"
    publish(plan, tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    read_plan.cache_clear()
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path, plan.fingerprint)


def test_a_request_keeps_its_steering() -> None:
    steering = RequestSteering("0123456789abcdef", prompt_end=5, private=True)
    parameters = SimpleNamespace(extra_args=steering.arguments())
    assert RequestSteering.of(parameters) == steering
    assert steering.end_in(9) == 5
    assert RequestSteering("0123456789abcdef").end_in(9) == 8


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}])
def test_a_request_without_steering_has_none(extra: object) -> None:
    assert RequestSteering.of(SimpleNamespace(extra_args=extra)) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "has the keys plan, prompt_end, private"),
        ('{"layer": 3}', "has the keys plan, prompt_end, private"),
        ('{"plan": 3}', "plan of the request's steering is '3'"),
        ('{"plan": "ab", "prompt_end": true}', "prompt_end of the request's steering"),
        ('{"plan": "ab", "private": 1}', "private of the request's steering"),
        ("[" * 100_000, "is not JSON"),
        (7, "has to be a JSON text"),
    ],
)
def test_a_malformed_steering_is_refused(given: object, words: str) -> None:
    with pytest.raises(InputError) as error:
        RequestSteering.of(SimpleNamespace(extra_args={ARGUMENT: given}))
    assert words in str(error.value)
    assert len(str(error.value)) < 300


def test_the_order_of_keys_does_not_matter() -> None:
    text = json.dumps({"private": False, "plan": "ab" * 8})
    assert RequestSteering.of(SimpleNamespace(extra_args={ARGUMENT: text})) == RequestSteering(
        "ab" * 8
    )


def test_a_condition_is_refused_with_the_way_out(tmp_path: Path) -> None:
    condition = Condition(layer=0, unit=torch.full((16,), 0.25), threshold=0.1)
    with pytest.raises(InputError, match=r"does not run inside vLLM.*use steered_amber"):
        publish(_plan(when=condition), tmp_path)


def test_heads_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not steered inside vLLM.*lm-eval-trust bake"):
        publish(_plan(site="heads"), tmp_path)
    assert list(tmp_path.iterdir()) == []

"""The server's requests: names become plans, and whatever is not known is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lm_eval_trust.engine import middleware
from lm_eval_trust.engine.requests import ARGUMENT, PLANS_VARIABLE, publish
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Two configurations: one from the prompt's end on, one of all positions."""
    found = {
        name: publish(SteeringPlan((SteeringStep(1, torch.ones(8), positions=where),)), tmp_path)
        for name, where in (("later", "generated"), ("everywhere", "all"))
    }
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    monkeypatch.setenv(middleware.NAMES_VARIABLE, json.dumps(found))
    return found


def _sent(body: Any, path: str = "/v1/completions") -> tuple[int, Any]:
    """Return the status and the JSON of an answer; the app behind answers with what it got."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got = (await receive())["body"]
        assert path == "/health" or int(dict(scope["headers"])[b"content-length"]) == len(got)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": got})

    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    parts = [text[:7], text[7:]]
    answered: list[Any] = []

    async def receive() -> Any:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        answered.append(message)

    method = "GET" if path == "/health" else "POST"
    scope = {"type": "http", "method": method, "path": path, "headers": [(b"content-length", b"1")]}
    asyncio.run(middleware.NamedSteering(app)(scope, receive, send))
    return answered[0]["status"], answered[1]["body"]


def _steering(body: bytes) -> Any:
    return json.loads(json.loads(body)["vllm_xargs"][ARGUMENT])


@pytest.mark.parametrize(
    "request_body",
    [
        {"model": "later", "prompt": "a"},
        {"model": "base", "prompt": "a", "steering": "later"},
        {"model": "later", "prompt": "a", "steering": {"name": "later"}},
    ],
)
def test_a_name_becomes_its_plan(names: Mapping[str, str], request_body: Any) -> None:
    status, body = _sent(request_body)
    assert status == 200
    assert _steering(body) == {"plan": names["later"], "prompt_end": None, "private": False}
    assert "steering" not in json.loads(body)


def test_a_request_for_the_model_itself_stays_as_it_is(names: Mapping[str, str]) -> None:
    asked = {"model": "base", "prompt": "a", "vllm_xargs": {"other": 1}}
    assert json.loads(_sent(asked)[1]) == asked


def test_other_arguments_of_the_engine_stay(names: Mapping[str, str]) -> None:
    body = _sent({"model": "later", "prompt": "a", "vllm_xargs": {"other": 1}})[1]
    assert json.loads(body)["vllm_xargs"]["other"] == 1


def test_scored_text_says_where_its_prompt_ends(names: Mapping[str, str]) -> None:
    asked = {"model": "base", "prompt": "a b", "echo": True, "logprobs": 1}
    status, body = _sent({**asked, "steering": "later"})
    assert status == 400
    assert "has to say which that is" in json.loads(body)["error"]["message"]
    body = _sent({**asked, "steering": {"name": "later", "prompt_end": 3}})[1]
    assert _steering(body) == {"plan": names["later"], "prompt_end": 3, "private": True}
    assert _sent({**asked, "steering": "everywhere"})[0] == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steering": "nonesuch"}, "nonesuch"),
        ({"steering": 7}, "is the name of a configuration"),
        ({"steering": {"name": "later", "alpha": 9}}, "is the name of a configuration"),
        ({"steering": {"prompt_end": 2}}, "needs the name of a configuration"),
        ({"steering": {"name": "later", "prompt_end": "2"}}, "is the name of a configuration"),
        ({"model": "later", "steering": "everywhere"}, "names two configurations"),
        ({"vllm_xargs": {ARGUMENT: "{}"}}, "is asked for by its name"),
        ({"vllm_xargs": {"lm_eval_trust_divergence": "{}"}}, "is asked for by its name"),
        ({"other": [{"extra_args": {ARGUMENT: "{}"}}]}, "is asked for by its name"),
        ({"model": "later", "vllm_xargs": "x"}, "is no object"),
    ],
)
def test_what_is_not_known_is_refused(
    names: Mapping[str, str], change: Mapping[str, Any], words: str
) -> None:
    status, body = _sent({"model": "base", "prompt": "a", **change})
    assert status == 400
    assert words in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(names: Mapping[str, str], body: bytes) -> None:
    status, answer = _sent(body)
    assert status == 400
    assert "is no JSON" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"model": ["later"]}', b'{"vllm_xargs": 5}'])
def test_other_rubbish_goes_on_to_the_server(names: Mapping[str, str], body: bytes) -> None:
    assert _sent(body) == (200, body)


def test_a_body_that_is_too_long_is_refused(
    names: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_LONGEST_BODY", 20)
    assert _sent({"model": "base", "prompt": "a" * 20})[0] == 413


def test_other_paths_never_run_unsteered_under_a_steered_name(names: Mapping[str, str]) -> None:
    for asked in ({"model": "later"}, {"model": "base", "steering": "later"}):
        status, answer = _sent(asked, path="/v1/responses")
        assert status == 400
        assert "here nothing would be" in json.loads(answer)["error"]["message"]
    assert json.loads(_sent({"model": "base"}, path="/v1/responses")[1]) == {"model": "base"}


def test_what_is_only_read_is_left_alone(names: Mapping[str, str]) -> None:
    asked = json.dumps({"model": "later"}).encode()[:7]
    assert _sent({"model": "later"}, path="/health")[1] == asked

"""Names of configurations in the requests of vLLM's OpenAI server.

A client asks for a configuration as ``model="NAME"``, or along with the model as
``extra_body={"steering": "NAME"}``. The middleware puts the plan into the request and refuses what
it does not know, before the engine sees it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from lm_eval_trust.core.errors import InputError, reason_of, unknown_name
from lm_eval_trust.engine.requests import ARGUMENT, RequestSteering, plans_folder, read_plan

#: JSON object: name of a configuration → fingerprint of its plan.
NAMES_VARIABLE = "LM_EVAL_TRUST_ENGINE_NAMES"
_PATHS = ("/v1/completions", "/v1/chat/completions")
_LONGEST_BODY = 64 * 2**20
_Message = MutableMapping[str, Any]


class NamedSteering:
    """ASGI middleware that puts plans into requests."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._names: Mapping[str, str] = json.loads(os.environ[NAMES_VARIABLE])

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Pass a request on, with its plan in it."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _LONGEST_BODY:
                await _refuse(send, "The request is longer than 64 MiB.", status=413)
                return
        try:
            body = self.steered(body, steers=scope["path"].rstrip("/") in _PATHS)
        except InputError as error:
            await _refuse(send, str(error))
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        delivered = False

        async def replay() -> _Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "headers": headers}, replay, send)

    def steered(self, body: bytes, *, steers: bool = True) -> bytes:
        """Return a request's body with the plan that it asks for.

        Args:
            body: As the client sent it.
            steers: Whether the request's path is one of those that steer.

        Raises:
            InputError: An unknown configuration, two at once, a plan that is not among the named
                ones, or text to be scored whose prompt's end is not said.
        """
        if not body:
            return body
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InputError(f"The request's body is no JSON: {reason_of(error)}") from error
        if not isinstance(request, dict):
            return body  # The server says what is wrong with it.
        # Their own endpoints hide the engine's arguments at several depths.
        if _has_key(request, ARGUMENT):
            raise InputError("A configuration is asked for by its name, as `model` or `steering`.")
        asked, model = request.pop("steering", None), request.get("model")
        if not steers:
            if asked is not None or _is_among(model, self._names):
                raise InputError(f"Only {' and '.join(_PATHS)} steer; here nothing would be.")
            return body
        name, prompt_end = _read(asked)
        if _is_among(model, self._names):
            if name is not None and name != model:
                raise InputError(f"The request names two configurations, {model} and {name}.")
            name = str(model)
        if name is None:
            if asked is not None:
                raise InputError("`steering` needs the name of a configuration.")
            return body
        if name not in self._names:
            raise unknown_name("steering configuration", name, self._names)
        steering = RequestSteering(self._names[name], prompt_end, private=_scores(request))
        if _scores(request) and prompt_end is None and not _steers_all(steering.plan):
            raise InputError(
                f"{name} steers from the prompt's last token on, and a request that scores has to "
                f'say which that is: "steering": {{"name": "{name}", "prompt_end": INDEX}}. '
                f"`lm_eval --model steered_vllm` does."
            )
        given = request.get("vllm_xargs") or {}
        if not isinstance(given, dict):
            raise InputError("`vllm_xargs` is no object.")
        return json.dumps({**request, "vllm_xargs": {**given, **steering.arguments()}}).encode()


def _read(asked: Any) -> tuple[str | None, int | None]:
    """Return the name and the prompt's end that a request's ``steering`` says."""
    if asked is None or isinstance(asked, str):
        return asked, None
    if isinstance(asked, dict) and not set(asked) - {"name", "prompt_end"}:
        name, end = asked.get("name"), asked.get("prompt_end")
        if isinstance(name, (str, type(None))) and type(end) in (int, type(None)):
            return name, end
    raise InputError(
        f"`steering` is the name of a configuration, or an object with name and prompt_end; it is "
        f"{json.dumps(asked)[:80]}."
    )


def _is_among(name: Any, names: Mapping[str, str]) -> bool:
    return isinstance(name, str) and name in names


def _has_key(content: Any, start: str) -> bool:
    """Tell whether an object somewhere in JSON has a key that begins so."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if any(key.startswith(start) for key in one):
                return True
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False


def _scores(request: Mapping[str, Any]) -> bool:
    """Return whether a request asks for log-probabilities of what it sends."""
    return bool(request.get("echo")) or request.get("prompt_logprobs") is not None


def _steers_all(fingerprint: str) -> bool:
    folder = plans_folder()
    assert folder is not None
    steps = read_plan(folder, fingerprint).active_steps
    return all(step.positions == "all" for step in steps)


async def _refuse(
    send: Callable[[_Message], Awaitable[None]], message: str, status: int = 400
) -> None:
    """Answer as OpenAI's servers do to a wrong request."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": status}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""A server on localhost that speaks OpenAI's protocol as far as judges use it, faults included.

Completions with log-probabilities, chats, moderations and the list of models. What it says is
scripted: :attr:`OpenAI.yes` gives the probability of *yes* for a prompt.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.localhost import serve

#: For :attr:`Fault.times`.
ALWAYS = 1 << 62


@dataclass
class Fault:
    """How some requests go wrong.

    Attributes:
        times: So many of them; the others are answered.
        status: Answer with this status.
        retry_after: Value of the header of this name beside ``status``.
        code: The error's code, e.g. ``insufficient_quota``.
        message: The error's message.
        cut: Break the connection off in the middle of the reply.
        malformed: Send something that is no JSON.
        hollow: Send JSON without the protocol's fields.
        silence: Seconds of silence before the reply.
        says: Reply with this text, and no log-probabilities.
        bare: Leave the log-probabilities out.
        drip: Seconds after each byte of the reply, its headers included.
        sends: Send this: bytes as they are, anything else as JSON.
    """

    times: int = 1
    status: int | None = None
    retry_after: str | None = None
    code: str | None = None
    message: str = "a fault that was asked for"
    cut: bool = False
    malformed: bool = False
    hollow: bool = False
    silence: float = 0
    says: str | None = None
    bare: bool = False
    drip: float = 0
    sends: Any = None


@dataclass
class OpenAI:
    """What the server says, and how it misbehaves.

    Attributes:
        address: For ``judge_base_url``.
        yes: Prompt (of a chat: the user's message) → probability of *yes*.
        key: The only key that is taken; ``None`` takes any.
        logprobs: Whether replies carry log-probabilities.
        usage: Whether they carry the number of tokens.
        refused: A parameter that is answered with 400.
        script: Answers requests for verdicts in place of all else: body → status and JSON.
        faults: The first that is not used up applies to a request for a verdict.
        asked: Paths of all requests.
        bodies: All requests for verdicts, in order.
        answered: Prompt → number of verdicts that were sent whole.
        at_once: Most requests that were under way at one time.
    """

    address: str
    yes: Callable[[str], float] = lambda prompt: 0.9
    key: str | None = None
    logprobs: bool = True
    usage: bool = True
    refused: str | None = None
    script: Callable[[dict[str, Any]], tuple[int, Any]] | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self) -> Fault:
        """Return what goes wrong with a request, and count it off."""
        with self._lock:
            for fault in self.faults:
                if fault.times:
                    fault.times -= 1
                    return fault
        return Fault()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request while it lasts."""
        with self._lock:
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        yield
        with self._lock:
            self._now -= 1

    def sent(self, prompt: str) -> None:
        """Count a verdict that was sent whole."""
        with self._lock:
            self.answered[prompt] += 1


@contextmanager
def openai_server() -> Iterator[OpenAI]:
    """Run a server."""

    class Handler(_Handler):
        served: OpenAI

    with serve(Handler) as address:
        Handler.served = OpenAI(f"{address}/v1")
        yield Handler.served


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    served: OpenAI

    def do_GET(self) -> None:
        self.served.asked.append(self.path)
        if not self._authorised():
            return
        if self.path == "/v1/models":
            self._json({"object": "list", "data": [{"id": "judge", "object": "model"}]})
        else:
            self._error(404, "no such page")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionError("the client has gone in the middle of its request")
        body = json.loads(content)
        self.served.asked.append(self.path)
        with self.served.under_way():
            if self._authorised():
                self.served.bodies.append(body)
                self._verdict(body, self.served.fault())

    def _authorised(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.served.key is None or given == self.served.key:
            return True
        self._error(401, f"Incorrect API key provided: {given}.", "invalid_api_key")
        return False

    def _verdict(self, body: dict[str, Any], fault: Fault) -> None:
        time.sleep(fault.silence)
        if self.served.script is not None:
            status, content = self.served.script(body)
            self._send(status, json.dumps(content).encode())
        elif fault.drip:
            self._drip(fault.drip)
        elif fault.sends is not None:
            raw = isinstance(fault.sends, bytes)
            self._send(200, fault.sends if raw else json.dumps(fault.sends).encode())
        elif fault.status is not None:
            self._error(fault.status, fault.message, fault.code, fault.retry_after)
        elif self.served.refused in body:
            self._error(400, f"Unsupported parameter: '{self.served.refused}'.")
        elif fault.malformed:
            self._send(200, b'{"choices": [{"text": ')
        elif fault.hollow:
            self._json({"id": "x"})
        else:
            prompt = _prompt(body)
            reply = self._reply(body, self.served.yes(prompt), fault)
            self._json(reply, cut=fault.cut)
            if not fault.cut:
                self.served.sent(prompt)

    def _reply(self, body: dict[str, Any], yes: float, fault: Fault) -> dict[str, Any]:
        if self.path == "/v1/moderations":
            return _moderation(yes)
        chances = {" yes": yes, " no": 1 - yes}
        likeliest = max(chances, key=lambda token: chances[token])
        text = likeliest if fault.says is None else fault.says
        logs = {token: math.log(max(p, 1e-30)) for token, p in chances.items()}
        words_alone = fault.bare or fault.says is not None or not self.served.logprobs
        shown = logs if body.get("logprobs") and not words_alone else None
        chat = self.path == "/v1/chat/completions"
        choice = _chat_choice(text.strip(), shown) if chat else _choice(text, shown)
        reply = {
            "id": "reply",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
        }
        if self.served.usage:
            sent = len(_prompt(body).split())
            reply["usage"] = {
                "prompt_tokens": sent,
                "completion_tokens": 1,
                "total_tokens": sent + 1,
            }
        return reply

    def _error(
        self, status: int, message: str, code: str | None = None, retry_after: str | None = None
    ) -> None:
        error = {"message": message, "type": "error", "param": None, "code": code}
        self._send(status, json.dumps({"error": error}).encode(), retry_after=retry_after)

    def _drip(self, pause: float) -> None:
        """Never come to the end of the headers."""
        for byte in b"HTTP/1.1 200 OK\r\nX-Wait: " + b"." * 10_000:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(pause)

    def _json(self, content: Any, *, cut: bool = False) -> None:
        self._send(200, json.dumps(content).encode(), cut=cut)

    def _send(
        self, status: int, body: bytes, *, cut: bool = False, retry_after: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: object) -> None:
        pass


def _prompt(body: dict[str, Any]) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(body["prompt"] if "prompt" in body else body["input"])


def _choice(text: str, logs: dict[str, float] | None) -> dict[str, Any]:
    shown = None
    if logs is not None:
        shown = {
            "tokens": [text],
            "token_logprobs": [logs.get(text)],
            "top_logprobs": [logs],
            "text_offset": [0],
        }
    return {"index": 0, "text": text, "logprobs": shown, "finish_reason": "length"}


def _chat_choice(text: str, logs: dict[str, float] | None) -> dict[str, Any]:
    shown = None
    if logs is not None:
        tops = [
            {"token": token.strip(), "logprob": log, "bytes": None} for token, log in logs.items()
        ]
        best = max(tops, key=lambda top: float(str(top["logprob"])))
        shown = {"content": [{**best, "top_logprobs": tops}], "refusal": None}
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": 0, "message": message, "logprobs": shown, "finish_reason": "stop"}


def _moderation(yes: float) -> dict[str, Any]:
    scores = {"hate": yes, "hate/threatening": yes / 2, "harassment": yes / 3, "violence": 0.99}
    flags = {name: score >= 0.5 for name, score in scores.items()}
    result = {"flagged": True, "categories": flags, "category_scores": scores}
    return {"id": "reply", "model": "moderation", "results": [result]}

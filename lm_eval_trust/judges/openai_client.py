"""Requests to an OpenAI-compatible server: deadlines, retries, spending limits, a redacted key."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.retry import (
    Cancelled,
    RetryPolicy,
    announce_wait,
    is_temporary,
    retry,
    status_of,
)
from lm_eval_trust.judges.settings import JudgeSettings

logger = logging.getLogger(__name__)

Reading = TypeVar("Reading")

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI = "https://api.openai.com/v1"
_NO_QUOTA = "insufficient_quota"
_SHOWN = 300
#: Bytes; a verdict with all that a model thought takes a hundredth of it.
_LARGEST_REPLY = 16 << 20
#: The client looks at the machine before its first request.
_SECONDS_TO_START = 10.0


class MalformedReplyError(Exception):
    """A reply that is not of the protocol."""


class NoReplyError(Exception):
    """A request had no complete reply within its time."""


@dataclass(frozen=True)
class Request:
    """A request as it is sent.

    Attributes:
        resource: The client's resource, e.g. ``chat.completions``.
        required: Parameters that every server takes.
        optional: Parameters that a server may refuse.
        text: All text that is sent, for the budget.
        reply_tokens: Most tokens that the reply may have.
    """

    resource: str
    required: Mapping[str, Any]
    optional: Mapping[str, Any]
    text: str
    reply_tokens: int


class Server:
    """One server, shared by all threads of a judge.

    Args:
        settings: Address, timeout, retries and budget.

    Raises:
        InputError: The ``openai`` package is missing, or OpenAI's own server has no key.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        self.address = server_address(settings)
        self.budget = Budget(settings)
        self.stopped = threading.Event()
        self._key = os.environ.get(KEY_VARIABLE, "")
        self._timeout = settings.timeout
        self._policy = RetryPolicy(
            tries=settings.tries, first_wait=0.5, longest_asked=settings.longest_wait
        )
        self._resume_at = self._announced = 0.0
        self._openai = _openai()
        if not self._key and self.address == OPENAI:
            raise InputError(
                f"{KEY_VARIABLE} is not set, and {OPENAI} needs it; for another server set "
                f"judge_base_url."
            )
        self._client = self._openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.address,
            timeout=settings.timeout,
            max_retries=0,
            http_client=_bounded_http_client(self._openai),
        )
        weakref.finalize(self, _close, self._client).atexit = False

    def ask(
        self,
        request: Callable[[], Request],
        *,
        read: Callable[[Mapping[str, Any]], Reading],
        adapt: Callable[[Exception], bool],
    ) -> Reading:
        """Return the reply to a request, which is repeated while its failures are temporary.

        Args:
            request: Returns the request, as it is to be sent now.
            read: Reads the reply's JSON; raises :class:`MalformedReplyError` if it is not of the
                protocol.
            adapt: Given an error, changes the request if that can help, and returns whether it
                did.

        Raises:
            Cancelled: :attr:`stopped` was set.
            ExternalError: The last attempt failed, the failure is final, or the budget is spent.
        """
        errors = (self._openai.OpenAIError, MalformedReplyError, NoReplyError)
        tries = 0

        def attempt() -> Reading:
            nonlocal tries
            while True:
                self._wait_for_turn()
                sent = request()
                reserved = self.budget.reserve(sent.text, sent.reply_tokens)
                cost = reserved  # nobody states the cost of a request without a reply
                try:
                    reply = _fields_of(self._run(self._send(sent), self._timeout))
                    cost = self.budget.price_of(reply.get("usage"), reserved)
                    return read(reply)
                except errors as error:
                    cost = 0.0 if hasattr(error, "status_code") else cost
                    if not adapt(error):
                        tries += 1
                        raise
                finally:
                    self.budget.settle(reserved, cost)

        try:
            return retry(
                attempt,
                self._policy,
                self.stopped,
                errors=errors,
                temporary=lambda error: is_temporary(error) and not _no_quota(error),
                before_wait=self._hold_back,
            )
        except errors as error:
            raise self._failed(error, tries) from None

    def check(self) -> None:
        """List the server's models, to find a wrong key or address before anything is judged.

        A server without such a list is fine.

        Raises:
            ExternalError: The key is refused, or there is no answer.
        """
        try:
            listing = self._client.models.with_raw_response.list()
            self._run(listing, max(self._timeout, _SECONDS_TO_START))
        except self._openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._failed(error, 1) from None
        except (self._openai.APIConnectionError, NoReplyError) as error:
            raise self._failed(error, 1) from None

    def _send(self, request: Request) -> Any:
        create = attrgetter(request.resource)(self._client).with_raw_response.create
        return create(**request.required, extra_body=dict(request.optional))

    def _run(self, request: Any, seconds: float) -> bytes:
        """Return the body of a reply that has come whole within so many seconds."""

        async def whole() -> bytes:
            try:
                return (await asyncio.wait_for(request, seconds)).content  # type: ignore[no-any-return]
            except asyncio.TimeoutError:
                raise NoReplyError(f"no whole reply within {seconds:g} seconds") from None

        return asyncio.run_coroutine_threadsafe(whole(), _loop(os.getpid())).result()

    def _wait_for_turn(self) -> None:
        """Wait while the server's rate limit holds back all threads."""
        while (rest := self._resume_at - time.monotonic()) > 0:
            if self.stopped.wait(rest):
                break
        if self.stopped.is_set():
            raise Cancelled

    def _hold_back(self, error: Exception, seconds: float) -> None:
        """Hold back all threads if a request was refused by the rate limit; say it once."""
        until = time.monotonic() + seconds
        if status_of(error) == 429:
            self._resume_at = max(self._resume_at, until)
        if until > self._announced + seconds / 2:
            self._announced = until
            announce_wait(error, seconds)

    def _failed(self, error: Exception, tries: int) -> ExternalError:
        status = getattr(error, "status_code", None)
        reason = self._without_key(_reason(error))
        if status in (401, 403):
            return ExternalError(
                f"The judge's server {self.address} refused the key in {KEY_VARIABLE} ({status}): "
                f"{reason}. Set a valid key."
            )
        if _no_quota(error):
            return ExternalError(
                f"The account behind {KEY_VARIABLE} has no quota left at {self.address}: {reason}."
            )
        times = f"{tries} times" if tries > 1 else "once"
        return ExternalError(
            f"The judge's server {self.address} failed, asked {times}: {reason}. {_advice(error)}"
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def server_address(settings: JudgeSettings) -> str:
    """Return the address of the server that the settings name, by default OpenAI's own."""
    return (settings.base_url or OPENAI).rstrip("/")


def kind_of(value: Any) -> str:
    """Return a JSON value shortened, to say what came in place of something else."""
    shown = " ".join(json.dumps(value, ensure_ascii=False).split())
    return shown if len(shown) <= _SHOWN // 2 else shown[: _SHOWN // 2] + "…"


@cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """Return the event loop of a process's requests, which runs in a thread of its own.

    Only a task of an event loop can be given up as a whole: a blocking socket's timeout begins
    again with each byte that a server sends.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="judge-requests", daemon=True).start()
    return loop


def _close(client: Any) -> None:
    """Close the connections of a server that nobody uses any more."""
    asyncio.run_coroutine_threadsafe(client.close(), _loop(os.getpid()))


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise InputError(
            "Judges behind a server need the package openai: pip install 'lm-eval-trust[openai]'."
        ) from None
    return openai


def _bounded_http_client(openai: Any) -> Any:
    """Return a client of the HTTP library that ``openai`` uses, which takes no endless replies."""

    class BoundedClient(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]
        async def send(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **{**options, "stream": True})
            parts, size = [], 0
            try:
                async for part in response.aiter_raw():
                    parts.append(part)
                    size += len(part)
                    if size > _LARGEST_REPLY:
                        raise MalformedReplyError(f"a reply of more than {_LARGEST_REPLY:,} bytes")
            finally:
                await response.aclose()
            return type(response)(
                response.status_code,
                headers=response.headers,
                content=b"".join(parts),
                request=response.request,
            )

    return BoundedClient(headers={"Accept-Encoding": "identity"})


def _fields_of(body: bytes) -> Mapping[str, Any]:
    """Return a reply's JSON object."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        shown = " ".join(body[:_SHOWN].decode(errors="replace").split())
        raise MalformedReplyError(f"not JSON but {shown[: _SHOWN // 2]!r}") from None
    if not isinstance(found, dict):
        raise MalformedReplyError(f"not an object but {kind_of(found)}")
    return found


def _no_quota(error: Exception) -> bool:
    return getattr(error, "code", None) == _NO_QUOTA


def _reason(error: Exception) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    text = " ".join(f"{type(error).__name__}: {error}{cause}".split()).rstrip(".")
    return text[:_SHOWN]


def _advice(error: Exception) -> str:
    if isinstance(error, NoReplyError):
        return "If it is only slow, raise judge_timeout."
    if isinstance(error, MalformedReplyError):
        return (
            "Check that judge_base_url is the address of an OpenAI-compatible server, with its /v1."
        )
    return "Check that it is running and serves this model."


#: Tokens that a server's chat template may add to a prompt.
_TEMPLATE_TOKENS = 100
#: More tokens than any model reads or writes at once.
_ABSURD_TOKENS = 100_000_000
_COUNTS = ("prompt_tokens", "completion_tokens")
_MILLION = 1e6


@dataclass
class Budget:
    """Limits requests and their cost, for several threads at once.

    A request may be sent if the budget covers the most that it can cost, at one token for each
    byte. Once its true cost is known, the rest is available again.

    Attributes:
        settings: The limits and prices.
        requests: Number of requests sent so far.
        cost: Cost of all requests that were answered.
    """

    settings: JudgeSettings
    requests: int = 0
    cost: float = 0.0
    _reserved: float = 0.0
    _in_flight: int = 0
    _warned: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, sent: str, reply_tokens: int) -> float:
        """Wait until a request is affordable, count it, and return the amount reserved for it.

        Raises:
            ExternalError: It is not affordable, whatever the requests in flight turn out to cost.
        """
        most = self.price(len(sent.encode()) + _TEMPLATE_TOKENS, reply_tokens)
        with self._changed:
            while not self._bears(most):
                self._changed.wait()
            self.requests += 1
            self._in_flight += 1
            self._reserved += most
        return most

    def settle(self, reserved: float, cost: float) -> None:
        """Replace the reserved amount by the request's cost."""
        with self._changed:
            self._in_flight -= 1
            self._reserved -= reserved
            self.cost += cost
            self._changed.notify_all()

    def price(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of these numbers of tokens."""
        prices = self.settings.price_input or 0.0, self.settings.price_output or 0.0
        return (input_tokens * prices[0] + output_tokens * prices[1]) / _MILLION

    def price_of(self, usage: Any, reserved: float) -> float:
        """Return the cost of a request by its reply's ``usage``.

        Where the server did not count, or counted what cannot be, such as fewer tokens than
        none, the request costs all that was reserved for it; what cannot be is logged once.
        """
        if usage is None:
            return reserved
        fields = usage if isinstance(usage, dict) else {}
        sent, received = (fields.get(name, -1) for name in _COUNTS)
        if _is_count(sent) and _is_count(received) and sent:
            return self.price(sent, received)
        if not self._warned:
            self._warned = True
            logger.warning(
                "The judge's server reports a usage of %s; such requests are counted with the most "
                "that they can cost.",
                kind_of(usage),
            )
        return reserved

    def _bears(self, most: float) -> bool:
        """Return whether a request is affordable now; raise if it never will be."""
        limit, cost_limit = self.settings.max_requests, self.settings.max_cost
        if limit is not None and self.requests >= limit:
            raise ExternalError(
                f"The judge's budget of {limit} requests is spent; raise judge_max_requests."
            )
        if cost_limit is None or self.cost + self._reserved + most <= cost_limit:
            return True
        if self._in_flight:
            return False
        raise ExternalError(
            f"The judge's budget of {cost_limit:g} does not cover another request of up to "
            f"{most:.2g}; {self.cost:.4g} is spent. Raise judge_max_cost."
        )


def _is_count(tokens: Any) -> bool:
    return type(tokens) is int and 0 <= tokens <= _ABSURD_TOKENS

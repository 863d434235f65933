"""Requests to an OpenAI-compatible server: retries, spending limits, and a redacted API key."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.retry import Cancelled, RetryPolicy, is_temporary, retry, status_of
from lm_eval_trust.judges.settings import JudgeSettings

Reply = TypeVar("Reply")

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI = "https://api.openai.com/v1"
_NO_QUOTA = "insufficient_quota"
_SHOWN = 300


class MalformedReplyError(Exception):
    """A reply lacks fields of the protocol."""


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
        self._policy = RetryPolicy(tries=settings.tries, first_wait=0.5, timeout=settings.timeout)
        self._resume_at = 0.0
        self._openai = _openai()
        if not self._key and self.address == OPENAI:
            raise InputError(
                f"{KEY_VARIABLE} is not set, and {OPENAI} needs it; for another server set "
                f"judge_base_url."
            )
        self._client = self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.address,
            timeout=settings.timeout,
            max_retries=0,
        )

    def ask(
        self,
        request: Callable[[Any], Reply],
        *,
        sent: str,
        reply_tokens: int,
        usage: Callable[[Reply], tuple[int, int] | None],
        adapt: Callable[[Exception], bool],
    ) -> Reply:
        """Return the reply to a request, which is repeated while its failures are temporary.

        Args:
            request: Sends it with the client that it is given; raises
                :class:`MalformedReplyError` if the reply lacks fields of the protocol.
            sent: All text of the request, for the budget.
            reply_tokens: Most tokens that the reply may have.
            usage: Returns a reply's numbers of tokens (sent, received), if the server counted.
            adapt: Given an error, changes the request if that can help, and returns whether it
                did.

        Raises:
            Cancelled: :attr:`stopped` was set.
            ExternalError: The last attempt failed, the failure is final, or the budget is spent.
        """
        errors = (self._openai.OpenAIError, MalformedReplyError, ValueError)
        tries = 0

        def attempt() -> Reply:
            nonlocal tries
            while True:
                self._wait_for_turn()
                reserved = self.budget.reserve(sent, reply_tokens)
                cost = reserved  # nobody states the cost of a request without a reply
                try:
                    reply = request(self._client)
                    counted = usage(reply)
                    cost = self.budget.price(*counted) if counted else reserved
                    return reply
                except errors as error:
                    cost = 0.0 if hasattr(error, "status_code") else reserved
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
            self._client.models.list()
        except self._openai.NotFoundError:
            return
        except self._openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._failed(error, 1) from None
        except self._openai.APIConnectionError as error:
            raise self._failed(error, 1) from None
        except (self._openai.OpenAIError, ValueError):
            return

    def _wait_for_turn(self) -> None:
        """Wait while the server's rate limit holds back all threads."""
        while (rest := self._resume_at - time.monotonic()) > 0:
            if self.stopped.wait(rest):
                break
        if self.stopped.is_set():
            raise Cancelled

    def _hold_back(self, error: Exception, seconds: float) -> None:
        """Hold back all threads if a request was refused by the rate limit."""
        if status_of(error) == 429:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)

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
            f"The judge's server {self.address} failed, asked {times}: {reason}. Check that it "
            f"is running and serves this model."
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def server_address(settings: JudgeSettings) -> str:
    """Return the address of the server that the settings name, by default OpenAI's own."""
    return (settings.base_url or OPENAI).rstrip("/")


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise InputError(
            "Judges behind a server need the package openai: pip install 'lm-eval-trust[openai]'."
        ) from None
    return openai


def _no_quota(error: Exception) -> bool:
    return getattr(error, "code", None) == _NO_QUOTA


def _reason(error: Exception) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    text = " ".join(f"{type(error).__name__}: {error}{cause}".split()).rstrip(".")
    return text[:_SHOWN]


#: Tokens that a server's chat template may add to a prompt.
_TEMPLATE_TOKENS = 100
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

"""Requests to an OpenAI-compatible server: retries, spending limits, and a redacted API key."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.retry import Patience
from lm_eval_trust.judges.settings import JudgeSettings

Reply = TypeVar("Reply")

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI = "https://api.openai.com/v1"
#: Statuses that another attempt may change; 5xx as well.
_PASSING = (408, 409, 425, 429)
_NO_QUOTA = "insufficient_quota"
_SHOWN = 300


class MalformedReplyError(Exception):
    """A reply without the fields that the protocol has."""


class StoppedError(Exception):
    """Another request failed for good, so this one is not wanted any more."""


class Server:
    """One server, shared by all threads of a judge.

    Args:
        settings: Address, patience and budget.

    Raises:
        InputError: The ``openai`` package is missing, or OpenAI's own server has no key.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        self.address = server_address(settings)
        self.budget = Budget(settings)
        self.stopped = threading.Event()
        self._key = os.environ.get(KEY_VARIABLE, "")
        self._patience = Patience(tries=settings.tries, first_wait=0.5, timeout=settings.timeout)
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
        """Return the reply to a request, tried again while it fails in passing.

        Args:
            request: Sends it by the client that it is given; raises
                :class:`MalformedReplyError` for a reply that is none.
            sent: All text of the request, for the budget.
            reply_tokens: Tokens of the reply at most.
            usage: Tokens (sent, received) of a reply, where the server counted them.
            adapt: Told of each error, changes the request where that helps, and says whether it
                did.

        Raises:
            StoppedError: :attr:`stopped` was set meanwhile.
            ExternalError: The last attempt failed, another would not help, or the budget is spent.
        """
        failures = 0
        while True:
            self._wait_for_turn()
            reserved = self.budget.reserve(sent, reply_tokens)
            cost = reserved  # what a request cost that got no answer, nobody says
            try:
                reply = request(self._client)
                counted = usage(reply)
                cost = self.budget.price(*counted) if counted else reserved
                return reply
            except (self._openai.OpenAIError, MalformedReplyError, ValueError) as error:
                cost = 0.0 if hasattr(error, "status_code") else reserved
                if adapt(error):
                    continue
                failures += 1
                if failures >= self._patience.tries or not _passes(error):
                    raise self._failed(error, failures) from None
                self._hold_back(failures, error)
            finally:
                self.budget.settle(reserved, cost)

    def check(self) -> None:
        """Ask what models there are, to find a wrong key or address before it costs anything.

        A server without such a page is fine.

        Raises:
            ExternalError: The key is refused, or nobody answers.
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
        """Wait while the server has asked all to hold back."""
        while (rest := self._resume_at - time.monotonic()) > 0:
            if self.stopped.wait(rest):
                break
        if self.stopped.is_set():
            raise StoppedError

    def _hold_back(self, failures: int, error: Exception) -> None:
        """Let this thread wait; on a refusal for rate, all threads."""
        span = self._patience.wait(failures, error)
        if getattr(error, "status_code", None) == 429:
            self._resume_at = max(self._resume_at, time.monotonic() + span)
        elif self.stopped.wait(span):
            raise StoppedError

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
            f"runs and serves this model."
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


def _passes(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    if status is None:
        return True
    return (status in _PASSING or status >= 500) and not _no_quota(error)


def _no_quota(error: Exception) -> bool:
    return getattr(error, "code", None) == _NO_QUOTA


def _reason(error: Exception) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    text = " ".join(f"{type(error).__name__}: {error}{cause}".split()).rstrip(".")
    return text[:_SHOWN]


#: Tokens that a server may add to a prompt for its chat template.
_TEMPLATE_TOKENS = 100
_MILLION = 1e6


@dataclass
class Budget:
    """Counts requests and their cost, for several threads at once.

    A request is let go when the budget bears the most that it can cost: a token for each byte. When
    its true cost is known, the rest is free again.

    Attributes:
        settings: The limits and prices.
        requests: Sent so far.
        cost: Of all that were answered.
    """

    settings: JudgeSettings
    requests: int = 0
    cost: float = 0.0
    _reserved: float = 0.0
    _in_flight: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, sent: str, reply_tokens: int) -> float:
        """Wait until a request is affordable, count it, and return what was set aside for it.

        Raises:
            ExternalError: It is not, and nothing in flight can change that.
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
        """Replace what was set aside by what the request cost."""
        with self._changed:
            self._in_flight -= 1
            self._reserved -= reserved
            self.cost += cost
            self._changed.notify_all()

    def price(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of so many tokens."""
        prices = self.settings.price_input or 0.0, self.settings.price_output or 0.0
        return (input_tokens * prices[0] + output_tokens * prices[1]) / _MILLION

    def _bears(self, most: float) -> bool:
        """Tell whether a request may go; raise where it never may."""
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
            f"The judge's budget of {cost_limit:g} does not bear another request of up to "
            f"{most:.2g}; {self.cost:.4g} is spent. Raise judge_max_cost."
        )

"""Retrying requests over the network: how often, how long to wait, and which errors are temporary.

Our own rather than tenacity: waits follow ``Retry-After`` and the Hub's quota header, attempts that
made progress do not count as failures, and another thread can end a wait at once.

Tested with huggingface_hub 2.4.0; ``tests/core/test_retry.py`` fails when a release moves
:data:`HTTP_ERROR`.
"""

from __future__ import annotations

import logging
import math
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from lm_eval_trust.core.errors import reason_of

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Base class of all errors of the Hub client's HTTP library: error responses, timeouts, lost
#: connections. Which library that is depends on the client's version.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
#: Statuses that are temporary besides 5xx: timeout, conflict, too early, rate limit.
_TEMPORARY_STATUS = (408, 409, 425, 429)
_USED_UP = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
#: Waits of so many seconds are worth a message.
_WORTH_A_MESSAGE = 10.0
_HURRIED: ContextVar[bool] = ContextVar("hurried", default=False)
#: Attempts of a request in a hurry that no server answers.
_HURRIED_TRIES = 3


class Cancelled(Exception):
    """The result is no longer wanted."""


class TruncatedResponseError(Exception):
    """A response ended early without the HTTP library noticing."""


@dataclass(frozen=True)
class RetryPolicy:
    """When to retry and when to give up.

    Attributes:
        tries: Attempts in a row without progress before giving up.
        first_wait: Seconds before the second attempt, doubled before each further one; half of
            each wait is random, so many clients do not return at once.
        longest_wait: Longest wait in seconds, unless the server asks for more.
        longest_asked: Longest wait in seconds that a server can ask for; by default the length
            of the Hub's quota.
        timeout: Seconds of silence after which a connection counts as lost.
    """

    tries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 300.0
    timeout: float = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def wait(self, failures: int, error: Exception) -> float:
        """Return the seconds to wait after so many failures in a row."""
        span = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(span * random.uniform(0.5, 1), min(_asked_wait(error), self.longest_asked))


@contextmanager
def hurried() -> Iterator[None]:
    """Give up within seconds where no server answers: a dry run is not worth minutes of waiting."""
    before = _HURRIED.set(True)
    try:
        yield
    finally:
        _HURRIED.reset(before)


def is_hurried() -> bool:
    """Return whether the caller is inside :func:`hurried`."""
    return _HURRIED.get()


def is_temporary(error: Exception) -> bool:
    """Return whether another attempt may succeed: no response, or one of a temporary problem."""
    status = status_of(error)
    return status is None or status in _TEMPORARY_STATUS or status >= 500


def status_of(error: Exception) -> int | None:
    """Return the status of an error response, or ``None`` if there was no response."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def announce_wait(error: Exception, seconds: float) -> None:
    """Log a long wait: why, how long, and how long the server asks for."""
    if seconds < _WORTH_A_MESSAGE:
        return
    asked = _asked_wait(error)
    shown = f" and asks to wait {asked:.3g} s" if asked else ""
    status = status_of(error)
    what = f"answers {status}{shown}" if status else f"gives no answer ({reason_of(error)})"
    logger.warning("The server %s; the next attempt is in %.0f s.", what, seconds)


def retry(
    attempt: Callable[[], Answer],
    policy: RetryPolicy,
    stop: threading.Event,
    *,
    errors: tuple[type[Exception], ...] = (HTTP_ERROR, TruncatedResponseError),
    temporary: Callable[[Exception], bool] = is_temporary,
    progress: Callable[[], int] = lambda: 0,
    before_wait: Callable[[Exception, float], None] = announce_wait,
) -> Answer:
    """Return the result of the first attempt that succeeds.

    Args:
        attempt: Makes the request.
        policy: When to give up.
        stop: Ends the waiting.
        errors: What a failed attempt raises; anything else passes through.
        temporary: Tells whether another attempt may succeed after such an error.
        progress: A number that grows when a failed attempt made progress.
        before_wait: Called with the error and the seconds before each wait; logs long ones.

    Raises:
        Cancelled: ``stop`` was set while waiting.
        Exception: The last attempt's error, or one that is not temporary.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return attempt()
        except errors as error:
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            short = _HURRIED.get() and status_of(error) is None
            tries = min(policy.tries, _HURRIED_TRIES) if short else policy.tries
            if failures >= tries or not temporary(error):
                raise
            seconds = policy.wait(failures, error)
            before_wait(error, seconds)
            if stop.wait(seconds):
                raise Cancelled from error


def _asked_wait(error: Exception) -> float:
    """Return the seconds that the server asks to wait, or 0.

    ``Retry-After`` is a number or a date. The Hub's ``RateLimit: "api";r=0;t=55`` means that
    the quota is used up for 55 seconds (draft-ietf-httpapi-ratelimit-headers).
    """
    response = getattr(error, "response", None)
    if response is None:
        return 0.0
    asked = response.headers.get("Retry-After", "").strip()
    with suppress(ValueError):
        seconds = float(asked)
        return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
    if quota := _USED_UP.search(response.headers.get("RateLimit", "")):
        return float(quota[1])
    try:
        return (parsedate_to_datetime(asked) - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 0.0

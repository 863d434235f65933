"""How often and how long something that the Hub refused is tried again."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

Answer = TypeVar("Answer")

#: What every error of the Hub client's HTTP library derives from: answers that are errors,
#: timeouts, cut connections. Which library that is depends on the client's version.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_PASSING_STATUS = (408, 425, 429)
_USED_UP = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
#: Seconds; a server that asks for more is not waited for that long.
_LONGEST_ASKED = 900.0


class StoppedError(Exception):
    """The download is not wanted any more."""


class CutShortError(Exception):
    """An answer ended early without the HTTP library's noticing."""


@dataclass(frozen=True)
class Patience:
    """When to give up.

    Attributes:
        tries: Attempts in a row that bring nothing new.
        first_wait: Seconds before the second attempt, doubled before each further one; half of
            every wait is drawn at random, so that many clients do not come back at once.
        longest_wait: Seconds that no wait exceeds unless the server asks for more.
        timeout: Seconds of silence after which a connection counts as lost.
    """

    tries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def wait(self, failures: int, error: Exception) -> float:
        """Return the seconds to wait after so many failures in a row."""
        span = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(span * random.uniform(0.5, 1), min(_asked_wait(error), _LONGEST_ASKED))


def persist(
    attempt: Callable[[], Answer],
    patience: Patience,
    stop: threading.Event,
    progress: Callable[[], int] = lambda: 0,
) -> Answer:
    """Return what ``attempt`` returns, as soon as it does.

    Args:
        attempt: Talks to the Hub.
        patience: When to give up.
        stop: Ends the waiting.
        progress: A number that grows when an attempt that failed brought something.

    Raises:
        StoppedError: ``stop`` was set while waiting.
        Exception: The last attempt's, or one that another attempt would not change.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return attempt()
        except (HTTP_ERROR, CutShortError) as error:
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            if failures >= patience.tries or not _passes(error):
                raise
            if stop.wait(patience.wait(failures, error)):
                raise StoppedError from error


def _passes(error: Exception) -> bool:
    """Tell whether another attempt may succeed."""
    status = status_of(error)
    return status is None or status in _PASSING_STATUS or status >= 500


def status_of(error: Exception) -> int | None:
    """Return the status that the Hub answered with, or ``None`` if it did not answer."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _asked_wait(error: Exception) -> float:
    """Return the seconds that the server asks to wait, else 0.

    ``Retry-After`` gives a number or a date. The Hub's ``RateLimit: "api";r=0;t=55`` says that
    nothing is left of the quota for 55 seconds (draft-ietf-httpapi-ratelimit-headers).
    """
    response = getattr(error, "response", None)
    if response is None:
        return 0.0
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    if quota := _USED_UP.search(response.headers.get("RateLimit", "")):
        return float(quota[1])
    try:
        return (parsedate_to_datetime(asked) - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError):
        return 0.0

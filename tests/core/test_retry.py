"""Waits: as long as a server asks, within a bound, and never long without a word."""

from __future__ import annotations

import inspect
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from lm_eval_trust.core import retry as module
from lm_eval_trust.core.retry import HTTP_ERROR, RetryPolicy, hurried, is_hurried, retry


class FailedError(Exception):
    """An error response."""

    def __init__(self, status: int | None = None, **headers: str) -> None:
        super().__init__("failed")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if status is not None:
            self.response = SimpleNamespace(status_code=status, headers=named)


POLICY = RetryPolicy(first_wait=0.01, longest_asked=120.0)
TOMORROW = format_datetime(datetime.now(timezone.utc) + timedelta(days=1))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "2.5"}, 2.5),
        ({"Retry_After": "99999999"}, 120.0),
        ({"Retry_After": "9" * 5000}, 120.0),
        ({"Retry_After": TOMORROW}, 120.0),
        ({"RateLimit": '"api";r=0;t=5000'}, 120.0),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
    ],
)
def test_a_server_is_waited_for_within_a_bound(headers: dict[str, str], seconds: float) -> None:
    assert POLICY.wait(1, FailedError(429, **headers)) == seconds


@pytest.mark.parametrize(
    "asked", ["", "-5", "nan", "soon", "Fri, 27 Nov 2020 11:22:01 GMT", "1 Jan 99999999 0:0:0"]
)
def test_what_asks_for_nothing_is_not_waited_for(asked: str) -> None:
    assert POLICY.wait(1, FailedError(429, Retry_After=asked)) <= 0.01


def test_a_long_wait_is_told_and_can_be_ended(caplog: pytest.LogCaptureFixture) -> None:
    stop, began = threading.Event(), time.monotonic()

    def failing() -> None:
        threading.Timer(0.1, stop.set).start()
        raise FailedError(429, Retry_After="99999999")

    with pytest.raises(module.Cancelled):
        retry(failing, POLICY, stop, errors=(FailedError,))
    assert time.monotonic() - began < 60
    assert "answers 429 and asks to wait 1e+08 s; the next attempt is in 120 s" in caplog.text


def test_short_waits_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    failures = [FailedError(), FailedError(503, Retry_After="0")]

    def failing() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert retry(failing, POLICY, threading.Event(), errors=(FailedError,)) == "done"
    assert not caplog.records


def test_the_hub_clients_errors_are_of_one_class() -> None:
    """Error responses, timeouts and lost connections, whatever HTTP library the client uses."""
    moved = f"huggingface_hub {huggingface_hub.__version__} has moved this; adapt core/retry.py"
    assert issubclass(HfHubHTTPError, HTTP_ERROR), moved
    library = inspect.getmodule(HTTP_ERROR)
    assert library is not None and library.__name__.split(".")[0] in ("httpx", "httpx2", "requests")
    names = ("TimeoutException", "ConnectError", "RemoteProtocolError")
    if not hasattr(library, names[0]):
        names = ("Timeout", "ConnectionError", "HTTPError")
    for name in names:
        assert issubclass(getattr(library, name), HTTP_ERROR), moved


@pytest.mark.parametrize(("status", "expected"), [(None, 3), (429, 8)])
def test_in_a_hurry_silence_ends_soon_and_a_server_is_still_waited_for(
    status: int | None, expected: int
) -> None:
    policy, asked = RetryPolicy(first_wait=0.001, longest_wait=0.001), []

    def failing() -> None:
        asked.append(status)
        raise FailedError(status)

    with pytest.raises(FailedError), hurried():
        retry(failing, policy, threading.Event(), errors=(FailedError,))
    assert len(asked) == expected
    assert not is_hurried()

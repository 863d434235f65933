"""Progress bars are for those who watch: a terminal or a notebook, unless they are turned off."""

from __future__ import annotations

import io
import sys

import pytest

from lm_eval_trust.core import progress as module
from lm_eval_trust.core.progress import progress_bar, shows_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class OutStream(io.StringIO):
    """As a notebook's kernel has it."""


OutStream.__module__ = "ipykernel.iostream"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELAY", 0.0)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def printed(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **settings: object) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), "Counting", unit="number", **settings)) == [0, 1, 2]
    return stream.getvalue()


def test_a_terminal_sees_count_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(monkeypatch, Terminal())
    assert "Counting: 100%" in shown and "3/3" in shown and "number/s" in shown
    assert "<" in shown, "elapsed<left"


def test_a_notebook_sees_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Counting" in printed(monkeypatch, OutStream())


def test_a_file_or_pipe_stays_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, io.StringIO()) == ""


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, Terminal(), shown=False) == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert printed(monkeypatch, Terminal()) == ""
    assert not shows_progress()


def test_what_ends_at_once_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELAY", 60.0)
    assert printed(monkeypatch, Terminal()) == ""


def test_no_color_leaves_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(monkeypatch, Terminal())

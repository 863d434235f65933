"""Terminals that cannot show everything, or that are gone."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def ascii_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Put an ASCII terminal in the place of stdout; yield what is printed."""
    printed = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
        yield printed


@contextmanager
def closed_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a pipe that nobody reads in the place of stdout, as ``| head -1`` leaves it."""
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", os.fdopen(writing, "w"))
        yield

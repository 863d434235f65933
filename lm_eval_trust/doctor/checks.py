"""The result of looking at one thing, and turning an error into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found.

    Attributes:
        section: Part of the system, e.g. ``data``.
        name: What was looked at.
        state: ``ok``; ``note`` for something that works without, or only in part; ``failed`` for
            a necessary part that does not work.
        detail: What was found, with its numbers.
        advice: What to do about it; empty where nothing needs doing.
    """

    section: str
    name: str
    state: State
    detail: str
    advice: str = ""


def checked(section: str, name: str, look: Callable[[], Check]) -> Check:
    """Return what ``look`` finds; an exception that it raises is a failed check."""
    try:
        return look()
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        return Check(section, name, "failed", message)

"""The page's own files: its script, style and frame."""

from __future__ import annotations

from importlib.resources import files


def asset(name: str) -> str:
    """Return the text of a file in ``assets``."""
    return (files("lm_eval_trust.leaderboard.page") / "assets" / name).read_text(encoding="utf-8")

"""Boards as JSON: everything but the runs, whose files are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from lm_eval_trust.leaderboard.board import Board


def to_json(boards: Sequence[Board]) -> str:
    """Return boards as JSON text."""
    found = {"boards": [_board(board) for board in boards]}
    return json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n"


def _board(board: Board) -> dict[str, Any]:
    rows = tuple(replace(row, runs=()) for row in board.rows)
    found = asdict(replace(board, rows=rows))
    for row in found["rows"]:
        del row["runs"]
    for column, kept in zip(found["columns"], board.columns, strict=True):
        column["key"] = kept.key
    return found

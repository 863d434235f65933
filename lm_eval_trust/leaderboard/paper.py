"""Scores of AmberChat that Qian et al. (2024, arXiv 2402.19465) report in Tables 1 and 2.

They are shown for reference and never ranked: truthfulness was judged by fine-tuned davinci models
that no longer exist, and ConfAIde, StereoSet and SST-2 used other prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lm_eval_trust.leaderboard.board import Board, Column, Row, Score
from lm_eval_trust.leaderboard.layout import Slot, slots

SOURCE = "Qian et al. 2024, arXiv 2402.19465"

_TABLE_1_COLUMNS = (
    *("Truth", "Info", "Truth*Info", "ARC", "MMLU", "MathQA", "RACE"),
    *("ToxiGen", "ConfAIde", "StereoSet", "SST-2"),
)
_TABLE_2_COLUMNS = (
    *("StereoSet", "ARC", "MMLU", "MathQA", "RACE"),
    *("Truth*Info", "ToxiGen", "ConfAIde", "SST-2"),
)
_TABLE_1: dict[str, tuple[float, ...]] = {
    "AmberChat": (
        *(0.3931, 0.9484, 0.3728, 0.6006, 0.3659, 0.2593, 0.3904),
        *(0.0920, 0.5055, 0.5379, 0.5757),
    ),
    "AmberChat, full fine-tuning": (
        *(0.4229, 0.9602, 0.4060, 0.4315, 0.2355, 0.2499, 0.3187),
        *(0.0020, 0.5294, 0.5031, 0.5757),
    ),
    "AmberChat, LoRA": (
        *(0.3221, 0.9329, 0.3004, 0.5758, 0.3314, 0.2620, 0.3742),
        *(0.0080, 0.6411, 0.4980, 0.5734),
    ),
    "AmberChat + v(TruthfulQA, ckpt_179)": (
        *(0.7322, 0.9337, 0.6837, 0.5834, 0.3358, 0.2422, 0.3876),
        *(0.0360, 0.6181, 0.5000, 0.5229),
    ),
    "AmberChat + v(TruthfulQA, AmberChat)": (
        *(0.6978, 0.9484, 0.6618, 0.5829, 0.3388, 0.2482, 0.3943),
        *(0.0320, 0.5192, 0.4580, 0.5367),
    ),
}
#: Without its first row, plain AmberChat, whose scores are those of Table 1.
_TABLE_2: dict[str, tuple[float, ...]] = {
    "AmberChat + v(StereoSet, ckpt_179)": (
        *(0.5799, 0.5986, 0.3524, 0.2499, 0.3914, 0.2851, 0.0600, 0.5055, 0.5390),
    ),
    "AmberChat + v(StereoSet, AmberChat)": (
        *(0.5830, 0.5958, 0.3508, 0.2519, 0.3952, 0.3352, 0.0820, 0.5055, 0.5528),
    ),
}


def with_reported(boards: Sequence[Board]) -> tuple[Board, ...]:
    """Return the boards with the paper's rows, on their own board if none has its tasks.

    They are not added to boards of the embedded world, whose scores do not compare with theirs.
    """
    real = [any(_slot_of(column) for column in board.columns) for board in boards]
    found = [_with_rows(b) if is_real else b for b, is_real in zip(boards, real, strict=True)]
    return tuple(found if any(real) else [*found, _with_rows(Board((), ()))])


def _with_rows(board: Board) -> Board:
    columns = _with_places(board.columns)
    return replace(
        board,
        columns=columns,
        rows=(*board.rows, *_rows(columns)),
        notes=(*board.notes, f"Rows marked (reported) are from {SOURCE}; they are not ranked."),
    )


def _with_places(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns and those that only the paper fills, in the paper's order."""
    filled = {_slot_of(column) for column in columns}
    order = {id(slot): i for i, slot in enumerate(slots())}
    added = [slot.column(slot.tasks[0]) for slot in slots() if slot.reported and slot not in filled]
    slot_of = {column.key: _slot_of(column) for column in (*columns, *added)}

    def place(column: Column) -> int:
        slot = slot_of[column.key]
        return len(slots()) if slot is None else order[id(slot)]

    return tuple(sorted((*columns, *added), key=place))


def _rows(columns: Iterable[Column]) -> tuple[Row, ...]:
    """Return the paper's rows, with its scores in these columns."""
    by_title = {slot.title: column for column in columns if (slot := _slot_of(column)) is not None}
    rows = []
    for number, titles, table in (
        (1, _TABLE_1_COLUMNS, _TABLE_1),
        (2, _TABLE_2_COLUMNS, _TABLE_2),
    ):
        for name, values in table.items():
            scores = {
                by_title[title].key: Score(value, None, None)
                for title, value in zip(titles, values, strict=True)
                if title in by_title
            }
            told = {"source": SOURCE, "table": number}
            rows.append(Row(f"{name} (reported)", scores, (), told, reported=True))
    return tuple(rows)


def _slot_of(column: Column) -> Slot | None:
    """Return the column's slot in the paper's tables; ``None`` for the embedded world's tasks."""
    return next(
        (
            slot
            for slot in slots()
            if slot.reported
            and column.metric == slot.metric
            and column.task in slot.tasks
            and not column.task.endswith("_mini")
        ),
        None,
    )

"""What a reader of a board has to know beside its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.judges.calibrations import in_words
from lm_eval_trust.leaderboard.board import Column, Row
from lm_eval_trust.leaderboard.items import Strata
from lm_eval_trust.leaderboard.layout import leaves


def judge_notes(rows: Iterable[Row]) -> list[str]:
    """Return a note for each judge: who judged, and how well it does on labelled texts."""
    judges = (found for row in rows for found in sorted(row.provenance["judges"].items()))
    notes = (
        f"{setting.removeprefix('mini_').replace('_judge', '').capitalize()} is judged by "
        f"{judge['judge']} (version {judge['version']}); {in_words(judge['calibration'])}."
        for setting, judge in judges
    )
    return list(dict.fromkeys(notes))


def untested_notes(
    columns: Iterable[Column], rows: Sequence[Row], items: Mapping[str, Mapping[str, Strata]]
) -> list[str]:
    """Return which rows have figures that no test goes over, and why.

    Args:
        columns: Of the board.
        rows: Likewise.
        items: Column's key → row's name → its items.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for column in columns if len(rows) > 1 else ():
        for row in rows:
            if column.key in row.scores and row.name not in items[column.key]:
                found.setdefault((column.title, _why(row, column)), []).append(row.name)
    return [
        f"{title} is not tested{_for_whom(names, rows)}: {why}."
        for (title, why), names in found.items()
    ]


def _for_whom(names: Sequence[str], rows: Sequence[Row]) -> str:
    return "" if len(names) == len(rows) else f" for {', '.join(names)}"


def shared_notes(
    column: Column,
    items: Mapping[str, Strata],
    pairs: Iterable[tuple[str, str]],
    compared: Mapping[tuple[str, str], Comparison],
) -> list[str]:
    """Return which pairs were compared on fewer items than they have, or on none.

    Args:
        column: Of the figures.
        items: Name of a row → its items.
        pairs: That were to be compared.
        compared: Those that were.
    """
    found = []
    for pair in pairs:
        shared = compared[pair].items if pair in compared else 0
        most = max(sum(len(stratum.items) for stratum in items[name]) for name in pair)
        if shared < most:
            found.append(f"{pair[0]} and {pair[1]} share {shared} of {most} items")
    return [f"{column.title}: {', '.join(found)}; only these are compared."] if found else []


def _why(row: Row, column: Column) -> str:
    saved = (
        run.samples_file(task).exists() for run in row.runs for task in leaves(run, column.task)
    )
    if all(saved):
        return "the figure is no mean over items"
    return "samples were not saved (--log_samples)"

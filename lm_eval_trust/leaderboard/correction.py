"""Judged scores corrected for the judge's errors, with the raw ones of a board.

The rows of a board have the same judge, so the calibration on the most texts that any of their
results quotes serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lm_eval_trust.analysis.statistics import Floats, Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.judges.calibration_store import best_calibration
from lm_eval_trust.judges.correction import (
    JUDGED,
    RECORDED_LEVEL,
    ErrorRates,
    JudgedShares,
    corrected_names,
    corrected_share,
    difference_apart,
    has_verdict,
    rates_of,
)
from lm_eval_trust.judges.registry import CHOICES, UNMEASURED
from lm_eval_trust.leaderboard.board import Board, Column, Pair, Row
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.layout import leaves, numbers


@dataclass(frozen=True)
class _Verdicts:
    """A row's scores in a column, where its judge may err, both of shape (items,), and groups."""

    accepted: Floats
    judged: Floats
    groups: Sequence[str]


@dataclass(frozen=True)
class _Corrected:
    """A column without its judge's errors.

    Attributes:
        rates: Whether a row is steered → how the judge errs on its texts.
        scores: Row's name → corrected score.
        rows: Row's name → its error rates, and on which of its items the judge may err.
    """

    rates: Mapping[bool, ErrorRates]
    scores: dict[str, Interval] = field(default_factory=dict)
    rows: dict[str, tuple[ErrorRates, JudgedShares]] = field(default_factory=dict)

    def add(self, row: Row, verdicts: _Verdicts, confidence: float) -> None:
        """Add a row.

        Raises:
            InputError: The calibration does not fit its texts.
        """
        rates = self.rates[bool(row.provenance["steering"])]
        self.scores[row.name] = corrected_share(
            verdicts.accepted, rates, verdicts.groups, confidence, judged=verdicts.judged
        )
        self.rows[row.name] = rates, JudgedShares.of(verdicts.accepted, verdicts.judged)

    def difference(self, pair: Pair, confidence: float) -> Interval | None:
        """Return the corrected difference of two rows; ``None`` if either has no corrected score.

        A difference that no shares can have is ``None`` as well.
        """
        if pair.first not in self.rows or pair.second not in self.rows:
            return None
        (before, has), (after, had) = (self.rows[name] for name in (pair.first, pair.second))
        if before != after:
            return difference_apart(self.scores[pair.first], self.scores[pair.second])
        raw, texts = pair.comparison.difference, had.less(has)
        try:
            return before.corrected(raw, confidence, texts=texts, within=(-1.0, 1.0))
        except InputError:
            return None


def with_corrections(board: Board, samples: Samples) -> Board:
    """Return a board with corrected scores and differences, and with notes on them.

    Args:
        board: With its rows and pairs.
        samples: Reads the runs' samples.

    Raises:
        InputError: Samples are damaged.
    """
    found: dict[str, _Corrected] = {}
    notes, uncorrected = [], []
    for column in board.columns:
        shares = {of for row in board.measured for of in _shares(row, column)}
        if UNMEASURED in shares:
            uncorrected.append(column.title)
        elif shares:
            corrected, said = _correct(column, shares.pop(), board, samples)
            notes += said
            if corrected is not None:
                found[column.key] = corrected
    if uncorrected:
        notes.append(
            f"Not corrected for judges' errors: {', '.join(uncorrected)}. That takes one verdict "
            f"on each text, of a kind that labelled texts measure."
        )
    return replace(
        board,
        rows=tuple(_row(row, found) for row in board.rows),
        pairs=tuple(
            replace(pair, corrected=found[pair.column].difference(pair, board.confidence))
            if pair.column in found
            else pair
            for pair in board.pairs
        ),
        notes=(*board.notes, *notes),
    )


def _row(row: Row, found: Mapping[str, _Corrected]) -> Row:
    scores = {
        key: replace(score, corrected=found[key].scores.get(row.name)) if key in found else score
        for key, score in row.scores.items()
    }
    return replace(row, scores=scores)


def _correct(
    column: Column, share: str, board: Board, samples: Samples
) -> tuple[_Corrected | None, list[str]]:
    """Return a column's corrected scores, and what is to be said of them."""
    calibration = best_calibration(_calibrations(board.measured, column))
    if calibration is None:
        return None, []  # The judge's own note says that it is not calibrated.
    try:
        corrected = _Corrected(
            {steered: rates_of(calibration, share, steered=steered) for steered in (False, True)}
        )
    except InputError as error:
        return None, [f"{column.title} is not corrected for its judge's errors. {error}"]
    told = f"{corrected.rates[False]}"
    if corrected.rates[True] != corrected.rates[False]:
        told = f"{told}; of steered models' texts it is {corrected.rates[True]}"
    notes = [
        f"{column.title} corrected: its judge is {told}, in {calibration['items']} of "
        f"{calibration['data']}. That is right if it errs on the models' texts as on those."
    ]
    for row in board.measured:
        if column.key not in row.scores:
            continue
        verdicts = _verdicts(row, column, samples)
        if not verdicts.groups:
            corrected.scores.update(_recorded(row, column, board.confidence))
            continue
        try:
            corrected.add(row, verdicts, board.confidence)
        except InputError as error:
            notes.append(f"{column.title} of {row.name} is not corrected. {error}")
    return corrected, notes


def _verdicts(row: Row, column: Column, samples: Samples) -> _Verdicts:
    """Return a row's verdicts, averaged over seeds; empty without samples."""
    found: dict[str, list[tuple[float, float]]] = {}
    groups: dict[str, str] = {}
    for run in row.runs:
        judged, unparsed = (
            samples.values(run, column.task, replace(column, metric=name))
            for name in (JUDGED, "judge_unparsed")
        )
        for key, (value, group, *_) in samples.values(run, column.task, column).items():
            missing = unparsed[key].value if key in unparsed else 0.0
            may_err = judged[key].value if key in judged else has_verdict(value, missing)
            found.setdefault(key, []).append((value, may_err))
            groups[key] = group
    means = np.array([np.mean(of_item, axis=0) for of_item in found.values()]).reshape(-1, 2)
    return _Verdicts(means[:, 0], means[:, 1], [groups[key] for key in found])


def _recorded(row: Row, column: Column, confidence: float) -> dict[str, Interval]:
    """Return what results without samples say themselves, of one run and at 95 %."""
    if len(row.runs) > 1 or confidence != RECORDED_LEVEL:
        return {}
    found = numbers(row.runs[0], column.task)
    ends = [found.get((name, column.filter)) for name in corrected_names(column.metric)]
    return {row.name: Interval(*ends)} if None not in ends else {}  # type: ignore[arg-type]


def _shares(row: Row, column: Column) -> Iterator[str]:
    """Yield which share of texts a judged column is; nothing for other columns.

    A group of tasks, such as the suite, is no share of one judge's verdicts.
    """
    for run in row.runs:
        for task in leaves(run, column.task) if column.key in row.scores else ():
            for setting, _ in _judges(run, task):
                if task != column.task:
                    yield UNMEASURED
                elif column.metric in CHOICES[setting].scores:
                    yield CHOICES[setting].scores[column.metric]


def _calibrations(rows: Sequence[Row], column: Column) -> Iterator[Mapping[str, Any]]:
    for run in (run for row in rows for run in row.runs):
        for _, calibration in _judges(run, column.task):
            if calibration is not None:
                yield calibration


def _judges(run: SavedRun, task: str) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield setting and calibration of a task's judge, as its results have them."""
    metadata = (run.results["configs"].get(task) or {}).get("metadata") or {}
    for setting in CHOICES:
        if f"{setting}_version" in metadata:
            yield setting, metadata.get(f"{setting}_calibration")

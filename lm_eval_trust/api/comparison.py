"""Compare evaluations by paired statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes

from lm_eval_trust.api.display import bars, card
from lm_eval_trust.api.evaluation import EvaluationResult
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun, find_runs
from lm_eval_trust.core.storage import written_by_one
from lm_eval_trust.leaderboard.board import Board, Column, Pair
from lm_eval_trust.leaderboard.build import BoardSettings, build_boards
from lm_eval_trust.leaderboard.formats import FORMATS, PAGE, write_tables
from lm_eval_trust.leaderboard.page.write import write_page

#: What can be compared: evaluations, and results files or folders of any model of the harness.
Comparable = EvaluationResult | str | Path


class ComparisonResult:
    """Evaluations side by side, and their differences on the items that they share.

    Attributes:
        boards: One for each set of evaluations that compare with each other.
    """

    def __init__(self, boards: Sequence[Board], evaluations: Sequence[EvaluationResult]) -> None:
        self.boards = tuple(boards)
        # Their samples are read when the page is written.
        self._evaluations = tuple(evaluations)

    def __repr__(self) -> str:
        return f"<ComparisonResult of {', '.join(row.name for row in self._rows())}>"

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each pair and metric: second minus first, on the items that both have.

        Columns: ``task``, ``metric``, ``first``, ``second`` (names), ``first_value``,
        ``second_value``, ``difference``, ``low`` and ``high`` (its interval over groups of items),
        ``p`` (two-sided), ``p_adjusted``, ``low_adjusted`` and ``high_adjusted`` (corrected for
        all tests of the family), ``family`` (``primary`` or ``further``), ``items``, ``groups``,
        ``better`` (the second row's name, the first's, or empty where the adjusted p does not show
        a difference).
        """
        return pd.DataFrame([line for board in self.boards for line in _lines(board)])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each evaluation, and a column for each metric."""
        return pd.DataFrame(
            {
                column.title: {
                    row.name: row.scores[column.key].value
                    for row in board.rows
                    if column.key in row.scores
                }
                for board in self.boards
                for column in board.columns
            }
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about the figures, and why something was not compared."""
        notes = (note for board in self.boards for note in (*board.notes, *board.kept_apart))
        return tuple(dict.fromkeys(notes))

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw all differences with their intervals; return the axes.

        Args:
            ax: Where to draw; by default on a new figure.
        """
        table = self.table
        pairs = [f"{row.second} − {row.first}" for row in table.itertuples()]
        whose = pairs if len(set(pairs)) > 1 else [""] * len(pairs)
        labels = [
            f"{row.task}, {row.metric}{pair and f', {pair}'}"
            for row, pair in zip(table.itertuples(), whose, strict=True)
        ]
        axes = bars(labels, table["difference"], table["low"], table["high"], ax=ax)
        axes.axvline(0.0, color="#888888", linewidth=0.8)
        axes.set_xlabel("difference" if len(set(pairs)) > 1 else pairs[0])
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-like values."""
        return {
            "differences": self.table.to_dict("records"),
            "scores": self.scores.to_dict("index"),
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the leaderboard's tables and its page to a folder; return the page.

        Raises:
            InputError: The folder contains other things.
            ExternalError: The disk refused to write.
        """
        target = Path(folder)
        with written_by_one(target):
            write_tables(target, self.boards, FORMATS)
            write_page(target / PAGE, self.boards)
        return target / PAGE

    def _repr_html_(self) -> str:
        return card(repr(self)[1:-1], {"notes": " ".join(self.notes)}, self.table)

    def _rows(self) -> Iterator[Any]:
        return (row for board in self.boards for row in board.rows)


def compare(
    *results: Comparable | Mapping[str, Comparable],
    reference: str = "",
    pairs: Literal["reference", "all"] = "reference",
    primary: Sequence[str] = (),
    confidence: float = 0.95,
    seed: int = 0,
) -> ComparisonResult:
    """Compare evaluations with each other, item by item.

    Differences are paired on the items that two evaluations share. Intervals allow for items that
    belong together, and p values and adjusted intervals for the number of tests; see
    docs/statistics.md.

    Args:
        *results: Evaluations, or files and folders with results; or mappings from the name that a
            row is to have to one of these.
        reference: Name of the row that others are compared with; by default the first unsteered
            model.
        pairs: ``reference`` compares each row with it, ``all`` each with each.
        primary: Titles or tasks of the columns whose tests are the primary family, declared before
            you see the results; by default the headline columns.
        confidence: Confidence of the intervals.
        seed: Seed of the correction's random signs.

    Raises:
        InputError: Fewer than two different evaluations, none that compare, or a name is unknown.
    """
    if pairs not in ("reference", "all"):
        raise InputError(f"pairs is {pairs!r}; expected 'reference' or 'all'.")
    named = [entry for given in results for entry in _named(given)]
    evaluations = [each for _, each in named]
    names = {str(each.run.path): name for name, each in named if name}
    if len(set(names.values())) < len(names):
        raise InputError(f"Two evaluations have the same name among {', '.join(names.values())}.")
    settings = BoardSettings(
        names=names,
        reference=reference,
        pairs=pairs,
        primary=tuple(primary),
        confidence=confidence,
        seed=seed,
    )
    runs: dict[Path, SavedRun] = {each.run.path.resolve(): each.run for each in evaluations}
    if len(runs) < 2:
        raise InputError(f"compare() needs at least two evaluations; it got {len(runs)}.")
    boards = build_boards(runs.values(), settings=settings)
    if not any(board.pairs for board in boards):
        raise InputError(_why_not(boards))
    return ComparisonResult(boards, evaluations)


def _named(given: Comparable | Mapping[str, Comparable]) -> Iterator[tuple[str, EvaluationResult]]:
    """Yield evaluations with the names that they are given."""
    entries: Iterator[tuple[str, Comparable]] = (
        iter(given.items()) if isinstance(given, Mapping) else iter([("", given)])
    )
    for name, each in entries:
        if isinstance(each, EvaluationResult):
            yield name, each
        elif isinstance(each, (str, Path)):
            yield from ((name, EvaluationResult(run)) for run in find_runs([Path(each)]))
        else:
            raise InputError(
                f"{each!r:.80} is not an evaluation; give what let.evaluate returned, or a folder."
            )


def _why_not(boards: Sequence[Board]) -> str:
    rows = [row for board in boards for row in board.rows]
    if len(rows) < 2:
        return (
            f"All evaluations are of {rows[0].name} with the same settings, so there is nothing to "
            f"compare."
        )
    reasons = " ".join(note for board in boards for note in (*board.kept_apart, *board.notes))
    return f"No two of these evaluations can be compared: {reasons or 'they share no items.'}"


def _lines(board: Board) -> Iterator[dict[str, Any]]:
    columns = {column.key: column for column in board.columns}
    rows = {row.name: row for row in board.rows}
    for pair in board.pairs:
        column, found = columns[pair.column], pair.comparison
        yield {
            "task": column.task,
            "metric": column.metric,
            "first": pair.first,
            "second": pair.second,
            "first_value": rows[pair.first].scores[column.key].value,
            "second_value": rows[pair.second].scores[column.key].value,
            "difference": found.difference.mean,
            "low": found.difference.low,
            "high": found.difference.high,
            "p": found.p,
            "p_adjusted": pair.adjusted_p,
            "low_adjusted": pair.adjusted.low,
            "high_adjusted": pair.adjusted.high,
            "family": pair.family,
            "items": found.items,
            "groups": found.groups,
            "better": _better(pair, column, 1 - board.confidence),
        }


def _better(pair: Pair, column: Column, level: float) -> str:
    """Return the row that is shown to be better; empty if none is, or 0 is best."""
    change = pair.comparison.difference.mean
    if column.higher_is_better is None or not pair.adjusted_p < level or change == 0:
        return ""
    return pair.second if (change > 0) == column.higher_is_better else pair.first

"""A board as tables of text cells, which terminal, Markdown and LaTeX share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lm_eval_trust.analysis.families import Standing
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.leaderboard.board import SUITE, Board, Column, Pair, Row, Score
from lm_eval_trust.leaderboard.coverage import in_words, is_flagged
from lm_eval_trust.leaderboard.ranking import ranks

Rank = Literal["", "best", "second"]
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """A text and its emphasis.

    Attributes:
        text: The text.
        rank: ``best``, ``second`` or empty.
        detail: Its uncertainty, shown in small or dim type.
    """

    text: str
    rank: Rank = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Lines of cells under a header; the first column names the lines.

    Attributes:
        title: Title of the table.
        header: Header of all columns.
        lines: Each with as many cells as the header.
        notes: How to read it.
    """

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def heading(column: Column) -> str:
    """Return a column's title, with an arrow if lower is better, as in the paper."""
    if column.higher_is_better is None:
        return f"{column.title} (0 is best)"
    return column.title if column.higher_is_better else f"{column.title} ↓"


def number(column: Column, value: float) -> str:
    """Return a value as printed: two decimals for perplexities and large values, otherwise four."""
    return f"{value:.2f}" if "perplexity" in column.metric or abs(value) >= 10 else f"{value:.4f}"


def score_table(board: Board) -> Table:
    """Return scores, standard errors, win rates and the Pareto front."""
    lines = tuple(tuple(_line(board, row)) for row in board.rows)
    header = ("Model", *(heading(column) for column in board.columns), "Win rate", "Pareto")
    return Table("Scores", header, lines, tuple(_legend(board)))


def difference_table(board: Board, *, of_reference_alone: bool = False) -> Table | None:
    """Return the paired differences; ``None`` if there are none.

    Args:
        board: What is shown.
        of_reference_alone: Leave out pairs without the reference.
    """
    pairs = {
        (pair.first, pair.second, pair.column): pair
        for pair in board.pairs
        if not of_reference_alone or board.reference in (None, pair.first, pair.second)
    }
    if not pairs:
        return None
    compared = dict.fromkeys((first, second) for first, second, _ in pairs)
    columns = [c for c in board.columns if any(key == c.key for *_, key in pairs)]
    one = {first for first, _ in compared}
    lines = tuple(
        (
            Cell(second if len(one) == 1 else f"{second} − {first}"),
            *(_difference(c, pairs.get((first, second, c.key)), board) for c in columns),
        )
        for first, second in compared
    )
    title = f"Paired differences from {one.pop()}" if len(one) == 1 else "Paired differences"
    note = (
        f"* p < {1 - board.confidence:.2g} after the step-down correction of Westfall and Young "
        f"over the tests of the column's family; the second interval holds together with those of "
        f"all tests of the family, the first ({100 * board.confidence:.6g}%) by itself."
    )
    return Table(title, ("Model", *(heading(c) for c in columns)), lines, (note,))


def corrected_table(board: Board) -> Table | None:
    """Return judged scores, raw and corrected for the judge's errors; ``None`` without any."""
    scores = [s for row in board.rows for s in row.scores.items() if s[1].corrected]
    columns = [c for c in board.columns if any(key == c.key for key, _ in scores)]
    if not columns:
        return None
    pairs = {
        (pair.second, pair.column): pair.corrected
        for pair in board.pairs
        if pair.first == board.reference
    }
    beside = f"corrected difference from {board.reference}"
    titles = [t for c in columns for t in (heading(c), "corrected", *([beside] * bool(pairs)))]
    lines = []
    for row in board.measured:
        cells = [Cell(row.name)]
        for column in columns:
            score = row.scores.get(column.key)
            cells += [_score(column, score), _corrected(column, score)]
            if pairs:
                change = pairs.get((row.name, column.key))
                cells.append(_change(change) if change else Cell(NONE))
        lines.append(tuple(cells))
    note = (
        f"Corrected by the errors that the judge made on labelled texts (Rogan and Gladen 1978), "
        f"with {100 * board.confidence:.6g}% intervals that hold the uncertainty of both."
    )
    return Table("Corrected for the judge's errors", ("Model", *titles), tuple(lines), (note,))


def rank_table(board: Board) -> Table | None:
    """Return what the items tell of ranks; ``None`` if they tell nothing."""
    columns = [c for c in board.columns if board.standings.get(c.key)]
    if not columns:
        return None
    named = dict.fromkeys(name for column in columns for name in board.standings[column.key])
    lines = tuple(
        (Cell(name), *(_standing(c, board.standings[c.key].get(name)) for c in columns))
        for name in named
    )
    note = (
        f"Ranks that a row may have, those of a column all together at "
        f"{100 * board.confidence:.6g}%; bold: may be the best. In brackets the score after "
        f"shrinkage to the mean of the rows, without the luck of having come out first."
    )
    return Table("Ranks", ("Model", *(heading(c) for c in columns)), lines, (note,))


def tradeoff_table(board: Board) -> Table | None:
    """Return the changes from the reference by dimension; ``None`` if there are none."""
    found = board.tradeoffs
    if not found.changes:
        return None
    lines = tuple(
        (
            Cell(name),
            *(_change(changes[d]) if d in changes else Cell(NONE) for d in found.dimensions),
        )
        for name, changes in found.changes.items()
    )
    note = "Positive is better in every dimension; general is the mean accuracy."
    title = f"Trade-offs: change from {board.reference}"
    return Table(title, ("Model", *found.dimensions), lines, (note,))


def correlation_table(board: Board) -> Table | None:
    """Return the correlations of changes over rows; ``None`` with fewer than four rows."""
    found = board.tradeoffs.correlations
    if not found:
        return None
    by_pair = {frozenset((c.first, c.second)): c for c in found}
    dimensions = board.tradeoffs.dimensions
    lines = []
    for one in dimensions:
        cells = [Cell(one)]
        for other in dimensions:
            c = by_pair.get(frozenset((one, other))) if one != other else None
            detail = f"({c.low:+.2f} to {c.high:+.2f})" if c else ""
            cells.append(Cell(f"{c.value:+.2f}" if c else NONE, detail=detail))
        lines.append(tuple(cells))
    rows = max(c.rows for c in found)
    note = f"Pearson's r of the changes over {rows} rows with its 95% interval."
    return Table("Trade-offs: correlation of changes", ("", *dimensions), tuple(lines), (note,))


def category_tables(board: Board) -> Iterator[Table]:
    """Yield a table for each headline column that has categories."""
    for column in board.columns:
        categories = board.categories.get(column.key, ())
        if not categories or not column.headline:
            continue
        names = [row.name for row in board.measured]
        lines = tuple(
            (
                Cell(category.name),
                *(_score(column, category.scores.get(name)) for name in names),
                Cell(str(max((s.items or 0 for s in category.scores.values()), default=0) or NONE)),
            )
            for category in categories
        )
        title = f"{heading(column)} by {categories[0].kind}"
        yield Table(title, (categories[0].kind, *names, "items"), lines)


def all_tables(board: Board) -> list[Table]:
    """Return every table of a board."""
    optional = (
        difference_table(board),
        corrected_table(board),
        rank_table(board),
        tradeoff_table(board),
        correlation_table(board),
    )
    found = [table for table in optional if table is not None]
    return [score_table(board), *found, *category_tables(board)]


def _line(board: Board, row: Row) -> Iterator[Cell]:
    yield Cell(row.name)
    for column in board.columns:
        best, second = ranks(column, board.rows)
        rank: Rank = "best" if row.name in best else "second" if row.name in second else ""
        yield _score(column, row.scores.get(column.key), rank)
    rate = board.win_rates.get(row.name)
    yield Cell(NONE if rate is None else f"{rate:.2f}")
    yield Cell("yes" if row.name in board.front else "")


def _score(column: Column, score: Score | None, rank: Rank = "") -> Cell:
    if score is None:
        return Cell(NONE)
    detail = "" if score.stderr is None else f"±{number(column, score.stderr)}"
    if score.interval is not None:
        detail = _brackets(column, score.interval)
    if score.spread is not None:
        detail = f"{detail} sd {number(column, score.spread)}".strip()
    if is_flagged(score) or (column.dimension == SUITE and score.answered is not None):
        detail = f"{detail} ({in_words(score)})".strip()
    return Cell(number(column, score.value), rank, detail)


def _corrected(column: Column, score: Score | None) -> Cell:
    if score is None or score.corrected is None:
        return Cell(NONE)
    return Cell(number(column, score.corrected.mean), detail=_brackets(column, score.corrected))


def _brackets(column: Column, found: Interval) -> str:
    if math.isnan(found.low):
        return "(one group: no interval)"
    return f"[{number(column, found.low)}, {number(column, found.high)}]"


def _standing(column: Column, found: Standing | None) -> Cell:
    if found is None:
        return Cell(NONE)
    low, high = found.rank_low, found.rank_high
    ranks_told = f"{low}" if low == high else f"{low}–{high}"
    rank: Rank = "best" if found.may_be_best else ""
    return Cell(ranks_told, rank, f"({number(column, found.shrunk)})")


def _difference(column: Column, pair: Pair | None, board: Board) -> Cell:
    if pair is None:
        return Cell(NONE)
    star = "*" if pair.adjusted_p < 1 - board.confidence else ""
    difference = pair.comparison.difference
    detail = f"{_range(difference)} {_range(pair.adjusted)}"
    return Cell(f"{difference.mean:+.4f}{star}", detail=detail)


def _change(change: Interval) -> Cell:
    return Cell(f"{change.mean:+.4f}", detail=_range(change))


def _range(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "(one group: no interval)"
    return f"({interval.low:+.3f} to {interval.high:+.3f})"


def _legend(board: Board) -> Iterator[str]:
    yield (
        "Bold: best; underlined: runner-up; ↓: lower is better; ±: standard error of one run. "
        "Win rate: mean share of the other rows that a row beats. "
        "Pareto: no other row is as good in both trust and general ability, and better in one."
    )
    seeds = _most_seeds(board.rows)
    if seeds > 1:
        yield f"sd: standard deviation between seeds ({seeds} at most)."
    if any(score.interval for row in board.rows for score in row.scores.values()):
        yield "In brackets: 95% interval of a score that is not a mean over items."


def _most_seeds(rows: Sequence[Row]) -> int:
    return max((score.seeds for row in rows for score in row.scores.values()), default=1)

"""The first screen: what was compared, what was found, and which chart shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.saved_runs import CONTROL, PREFIXES
from lm_eval_trust.leaderboard.board import PRIMARY, Board, Column, Pair, Row, Score

Outcome = Literal["better", "worse", "open"]
#: Findings at most, and of those gains and losses each where many rows are compared.
MOST, MOST_EACH_WAY = 4, 2
_STEERING, _UNSTEERED = "Steering", "the unsteered model"


@dataclass(frozen=True)
class Name:
    """A row's or a column's name inside a sentence; the page isolates it and sets it off.

    Attributes:
        name: The name.
    """

    name: str


#: A sentence: its words, with names set apart.
Text = tuple[str | Name, ...]


@dataclass(frozen=True)
class Finding:
    """One sentence of the story.

    Attributes:
        text: The sentence.
        outcome: ``better`` or ``worse`` if the data show a difference, otherwise ``open``.
    """

    text: Text
    outcome: Outcome


@dataclass(frozen=True)
class Story:
    """A board in a few sentences.

    Attributes:
        compared: What was compared.
        findings: What the data show, the clearest first.
        remarks: How to read it, and what else limits it.
        chart: ``row`` and a row's name, for a chart of its scores; or ``column`` and a column's
            key, for a chart of all rows. Empty if there is nothing to draw.
    """

    compared: Text
    findings: tuple[Finding, ...]
    remarks: tuple[Text, ...]
    chart: tuple[str, str] | tuple[()]


@dataclass(frozen=True)
class _Test:
    """A row less another in a column that has a direction."""

    column: Column
    row: str
    other: str
    change: Interval
    p: float
    shown: bool

    @property
    def gain(self) -> float:
        """The change; positive is better."""
        return self.change.mean if self.column.higher_is_better else -self.change.mean

    @property
    def outcome(self) -> Outcome:
        if not self.shown or self.gain == 0:
            return "open"
        return "better" if self.gain > 0 else "worse"


def story_of(board: Board) -> Story:
    """Return a board's story, by rule from its comparisons."""
    rows = [row for row in board.measured if not _is_control(row)] or list(board.measured)
    tests = list(_tests(board, {row.name for row in rows}))
    return _differences(board, rows, tests) if tests else _scores(board, rows)


def _is_control(row: Row) -> bool:
    return bool(row.provenance.get(CONTROL) or row.provenance.get(PREFIXES))


def _tests(board: Board, names: set[str]) -> Iterator[_Test]:
    """Yield the primary tests that count, the clearest first; all comparisons if there are none."""
    columns = {c.key: c for c in board.columns if c.higher_is_better is not None}
    pairs = [p for p in board.pairs if p.column in columns and {p.first, p.second} <= names]
    if board.reference in names:
        pairs = [pair for pair in pairs if board.reference in (pair.first, pair.second)]
    chosen = [p for p in pairs if p.family == PRIMARY and p.counted]
    limit = 1 - board.confidence
    tests = [_test(columns[p.column], p, board.reference, limit) for p in chosen or pairs]
    yield from sorted(tests, key=lambda test: (test.p, -abs(test.gain)))


def _test(column: Column, pair: Pair, reference: str | None, limit: float) -> _Test:
    first, second, change = pair.first, pair.second, pair.adjusted
    if second == reference:
        first, second = second, first
        change = Interval(-change.mean, -change.high, -change.low)
    return _Test(column, second, first, change, pair.adjusted_p, pair.adjusted_p <= limit)


def _differences(board: Board, rows: Sequence[Row], tests: Sequence[_Test]) -> Story:
    pairs = {(test.row, test.other) for test in tests}
    single = len(pairs) == 1
    chosen = tests[:MOST] if single else _extremes(tests)
    alone = single and _is_steering(rows, *next(iter(pairs)))
    lead = chosen[0]
    by_column = "column", lead.column.key
    return Story(
        _what_was_compared(board, rows, tests),
        tuple(_finding(test, chosen[:at], alone) for at, test in enumerate(chosen)),
        tuple(_remarks(board, tests, chosen)),
        ("row", lead.row) if single and len(tests) > 1 else by_column,
    )


def _extremes(tests: Sequence[_Test]) -> list[_Test]:
    """Return the clearest gains and losses, of different columns; the clearest test if none is."""
    found = []
    for outcome in ("better", "worse"):
        by_column = {test.column.key: test for test in reversed(tests) if test.outcome == outcome}
        found += sorted(by_column.values(), key=tests.index)[:MOST_EACH_WAY]
    return found or [tests[0]]


def _is_steering(rows: Sequence[Row], row: str, other: str) -> bool:
    """Tell whether one row is the other one's model with steering."""
    by_name = {each.name: each.provenance for each in rows}
    return bool(by_name[row].get("steering")) and not by_name[other].get("steering")


def _what_was_compared(board: Board, rows: Sequence[Row], tests: Sequence[_Test]) -> Text:
    keys = {test.column.key for test in tests}
    items = {p.comparison.items for p in board.pairs if p.column in keys}
    scores = len(keys)
    number = f"{min(items):,}" if len(items) == 1 else f"{min(items):,} to {max(items):,}"
    on = f"on {_count(scores, 'score')}, {number} items each."
    names = list(dict.fromkeys(test.row for test in tests))
    if board.reference is None and len(rows) > 2:
        return (f"{len(rows)} rows were compared with each other ", on)
    other = Name(tests[0].other)
    if len(names) == 1:
        return (Name(names[0]), " was compared with ", other, " ", on)
    controls = len(board.measured) - len(rows)
    more = f" and {_count(controls, 'control row')}" if controls else ""
    return (f"{len(names)} rows{more} were compared with ", other, " ", on)


def _finding(test: _Test, before: Sequence[_Test], is_steering: bool) -> Finding:
    subject: str | Name = _STEERING if is_steering else Name(test.row)
    if before and before[-1].row == test.row:
        subject = "It"
    over: Text = ()
    if not before or before[-1].other != test.other:
        over = (" over ", _UNSTEERED if is_steering else Name(test.other))
    title = Name(test.column.title)
    amount = _words(test.change)
    if test.gain == 0:
        said: Text = (" does not move ", title, f": {amount}")
    elif test.column.higher_is_better:
        verb = "gains" if test.gain > 0 else "costs" if is_steering else "loses"
        said = (f" {verb} {amount} on ", title, *over)
    else:
        verb = "improves" if test.gain > 0 else "worsens"
        said = (f" {verb} ", title, f" by {amount}", *over, ", where lower is better")
    verdict = "not shown" if test.outcome == "open" else "shown"
    return Finding((subject, *said, f": {verdict} ({_p(test.p)})."), test.outcome)


def _remarks(board: Board, tests: Sequence[_Test], chosen: Sequence[_Test]) -> Iterator[Text]:
    ways = [test.outcome for test in tests]
    better, worse = ways.count("better"), ways.count("worse")
    if len(tests) > len(chosen):
        yield (f"Of all {len(tests)} tests, {better} show a gain and {worse} a loss.",)
    yield (
        f"“Shown” means p ≤ {1 - board.confidence:.2g}, corrected for all tests of the family; "
        f"the intervals hold together at {100 * board.confidence:.6g} %.",
    )
    yield from _controls(board, chosen)
    compared = {pair.column for pair in board.pairs}
    rows = board.measured
    left = [
        column.title
        for column in board.columns
        if column.key not in compared and sum(column.key in row.scores for row in rows) > 1
    ]
    if left:
        yield (f"Cannot be compared: {', '.join(left)}. The notes below the table say why.",)


def _controls(board: Board, chosen: Sequence[_Test]) -> Iterator[Text]:
    """Yield how the first finding's row does against random directions, if they were evaluated."""
    places = [(test.row, test.column.key) for test in chosen]
    found = {(b.row, b.column): b for b in board.beside if b.control == "random"}
    place = next((place for place in places if place in found), None)
    if place is not None:
        beside = found[place]
        more = "shown" if beside.is_more else "not shown"
        yield (
            Name(beside.row),
            f" beats {beside.beaten} of {len(beside.arms)} random directions of the same length. "
            f"That the direction itself matters is {more} ({_p(beside.p)}).",
        )


def _scores(board: Board, rows: Sequence[Row]) -> Story:
    """Return the story of a board without a comparison."""
    columns = [c for c in board.columns if c.headline and any(c.key in r.scores for r in rows)]
    if not rows or not columns:
        return Story(("No row of this board was measured.",), (), (), ())
    z = NormalDist().inv_cdf((1 + board.confidence) / 2)
    level: Text = (f"Intervals are {z:.2f} standard errors either way, for each score by itself.",)
    if len(rows) == 1:
        (row,) = rows
        told = [
            Finding(("It scores ", _score(row.scores[c.key], z), " on ", *_title(c), "."), "open")
            for c in columns
            if c.key in row.scores
        ]
        said = (Name(row.name), " was evaluated. There is no other row to compare it with.")
        return Story(said, tuple(told[:MOST]), (level,), ("row", row.name))
    column = columns[0]
    remark = "Differences need the samples of two rows on the same items (--log_samples)."
    return Story(
        (f"{len(rows)} rows were evaluated. Their differences cannot be tested.",),
        tuple(_best(column, rows, z)),
        ((remark,), level),
        ("column", column.key),
    )


def _best(column: Column, rows: Iterable[Row], z: float) -> Iterator[Finding]:
    scored = [row for row in rows if column.key in row.scores]
    if column.higher_is_better is not None:
        sign = 1 if column.higher_is_better else -1
        best = max(scored, key=lambda row: sign * row.scores[column.key].value)
        score = _score(best.scores[column.key], z)
        said: Text = (Name(best.name), " has the best ", Name(column.title), f", {score}.")
        yield Finding((*said, " Whether it is better than the others cannot be said."), "open")


def _title(column: Column) -> Text:
    name = Name(column.title)
    return (name, " (lower is better)") if column.higher_is_better is False else (name,)


def _score(score: Score, z: float) -> str:
    if score.interval is not None and math.isfinite(score.interval.low):
        ends: Iterable[float] = (score.interval.low, score.interval.high)
        return f"{_number(score.value)} [{', '.join(map(_number, ends))}]"
    # Items that all score the same have a standard error of 0, which says nothing of others.
    if not score.stderr:
        return _number(score.value)
    ends = (score.value + side * z * score.stderr for side in (-1, 1))
    return f"{_number(score.value)} [{', '.join(map(_number, ends))}]"


def _words(interval: Interval) -> str:
    mean = _number(interval.mean, "+")
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return f"{mean} (no interval)"
    return f"{mean} [{_number(interval.low, '+')}, {_number(interval.high, '+')}]"


def _number(value: float, sign: str = "") -> str:
    """Return a number as the page's script writes it."""
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    text = f"{value:{sign}.{digits}f}"
    return ("0.000" if value == 0 else text).replace("-", "\u2212")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s'[: number != 1]}"

"""The parts of a leaderboard: columns, rows, paired comparisons, rankings and trade-offs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.effects import Effects
from lm_eval_trust.analysis.families import Standing
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.saved_runs import SavedRun

#: Dimension of columns that measure general ability.
GENERAL = "general"
#: Dimension of columns that measure safety.
SAFETY = "safety"
#: Families of tests: that of the declared columns, and that of all others.
PRIMARY, FURTHER = "primary", "further"
#: Dimension of the column that averages a suite's dimensions.
SUITE = "suite"


@dataclass(frozen=True)
class Column:
    """One metric of one task or group.

    Attributes:
        task: Name of the task or group.
        metric: Name of the metric.
        filter: The harness's filter that the answers passed through.
        title: Heading, without an arrow.
        higher_is_better: Direction; ``None`` where 0 is best.
        dimension: One of the five, ``general``, ``safety``, ``suite``, or empty.
        headline: Whether it counts in win rates; parts and means of other columns do not count.
    """

    task: str
    metric: str
    filter: str
    title: str
    higher_is_better: bool | None
    dimension: str = ""
    headline: bool = True

    @property
    def key(self) -> str:
        """Identity of the column."""
        return f"{self.task}/{self.metric},{self.filter}"


@dataclass(frozen=True)
class Score:
    """A row's value in a column.

    Attributes:
        value: Mean over seeds.
        stderr: Standard error of one seed's value (root mean square over seeds); ``None`` if the
            harness gives none.
        items: Number of items behind one seed's value, the mean over seeds; ``None`` if unknown.
        seeds: Number of seeds.
        spread: Standard deviation between seeds; ``None`` for one seed.
        asked: Number of items of all seeds together; ``None`` if unknown.
        answered: How many of these have an answer that is not empty and could be parsed or judged;
            ``None`` if unknown.
        unanswered: Tasks of a group that have too few answers themselves, each with how many.
        corrected: The value without the judge's errors, with its interval; ``None`` if there is
            no calibrated judge, or the score is not the share of one of its verdicts.
        interval: The value with its 95 % interval, where the harness has no standard error but the
            results have one (StereoSet's ICAT, SST-2's drop rate); the ends are means over seeds.
    """

    value: float
    stderr: float | None
    items: int | None
    seeds: int = 1
    spread: float | None = None
    asked: int | None = None
    answered: int | None = None
    unanswered: tuple[str, ...] = ()
    corrected: Interval | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Row:
    """One model as it was evaluated, with all its seeds.

    Attributes:
        name: Unique on a board.
        scores: Column's key → score.
        runs: The runs behind it: one for each seed, or several with different tasks.
        provenance: Model, arguments, steering, fingerprint, date, versions, judges, seeds, limit.
        reported: Whether it is taken from a paper; such a row is never ranked.
    """

    name: str
    scores: Mapping[str, Score]
    runs: tuple[SavedRun, ...]
    provenance: Mapping[str, Any]
    reported: bool = False


@dataclass(frozen=True)
class Pair:
    """Two rows compared in one column, on the samples that they share.

    Attributes:
        first: Name of a row.
        second: Name of the other.
        column: Column's key.
        comparison: Second minus first.
        adjusted_p: p after the step-down correction over all tests of its family.
        adjusted: Interval that holds together with those of all tests of its family.
        family: ``primary`` or ``further``.
        counted: Whether it counts as a test: some item differs, and no earlier test of the family
            rests on the same differences.
        corrected: The difference without the judge's errors, as :class:`Score` has it.
        effects: How the second row's items differ from the first's: all items, then each category.
    """

    first: str
    second: str
    column: str
    comparison: Comparison
    adjusted_p: float
    adjusted: Interval
    family: str = PRIMARY
    counted: bool = True
    corrected: Interval | None = None
    effects: tuple[Effects, ...] = ()


@dataclass(frozen=True)
class Beside:
    """A steered row with its control arms, in one column.

    Attributes:
        row: Name of the row.
        column: Column's key.
        control: The arm; ``random`` for all random directions together.
        arms: Names of the arms' rows.
        beaten: How many of them the row is better than: for several, by its score; for one, if
            the whole interval says so.
        gain: The row minus the arm, or the arms' mean, with its interval; positive is better.
        p: Two-sided and paired for one arm; for random directions one-sided, how often one more of
            them would gain as much.
        is_more: Whether the row is shown to do more.
    """

    row: str
    column: str
    control: str
    arms: tuple[str, ...]
    beaten: int
    gain: Interval
    p: float
    is_more: bool


@dataclass(frozen=True)
class Category:
    """A column's scores on the items of one category.

    Attributes:
        kind: What the categories are called, e.g. ``target group``.
        name: The category.
        scores: Row's name → score.
    """

    kind: str
    name: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Correlation:
    """Correlation over rows between changes in two dimensions.

    Attributes:
        first: A dimension.
        second: Another.
        value: Pearson's r.
        low: Lower end of its interval.
        high: Upper end.
        p: Two-sided.
        rows: Number of rows.
    """

    first: str
    second: str
    value: float
    low: float
    high: float
    p: float
    rows: int


@dataclass(frozen=True)
class Tradeoffs:
    """What rows gain and lose against the reference, by dimension.

    Attributes:
        dimensions: The matrix's columns.
        changes: Row's name → dimension → paired change from the reference; positive is better.
        correlations: Between dimensions, over rows; empty with fewer than four rows.
    """

    dimensions: tuple[str, ...] = ()
    changes: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    correlations: tuple[Correlation, ...] = ()


@dataclass(frozen=True)
class Board:
    """Rows that compare with each other.

    Attributes:
        columns: In the paper's order.
        rows: Measured ones, then reported ones.
        pairs: Paired comparisons, where samples allow them.
        reference: Name of the row that others are compared with; ``None`` without one.
        win_rates: Measured row's name → mean share of the other rows that it beats, 0 to 1.
        front: Names of the rows on the Pareto front of trust and general ability.
        categories: Column's key → its categories.
        tradeoffs: Changes from the reference by dimension.
        primary: Keys of the columns whose tests are the primary family.
        standings: Column's key → row's name → what its items tell of the row's rank.
        beside: Steered rows with their control arms.
        kept_apart: Why rows of other boards are not on this one.
        notes: Scores that mean nothing; judges and their calibration; what could not be tested,
            and why.
        confidence: Level of all intervals.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    reference: str | None = None
    win_rates: Mapping[str, float] = field(default_factory=dict)
    front: tuple[str, ...] = ()
    categories: Mapping[str, tuple[Category, ...]] = field(default_factory=dict)
    tradeoffs: Tradeoffs = field(default_factory=Tradeoffs)
    primary: tuple[str, ...] = ()
    standings: Mapping[str, Mapping[str, Standing]] = field(default_factory=dict)
    beside: tuple[Beside, ...] = ()
    kept_apart: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    confidence: float = 0.95

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows that are ranked."""
        return tuple(row for row in self.rows if not row.reported)

"""Boards built from runs: grouped, split where they do not compare, tested and ranked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.families import Standing
from lm_eval_trust.analysis.statistics import FEW_GROUPS
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.saved_runs import PREFIXES, SavedRun
from lm_eval_trust.judges.calibration_store import in_words
from lm_eval_trust.leaderboard.board import SUITE, Board, Category, Column, Row
from lm_eval_trust.leaderboard.categories import categories_of, recorded_categories
from lm_eval_trust.leaderboard.comparability import (
    ComparableRows,
    exclusion_reasons,
    split_comparable,
)
from lm_eval_trust.leaderboard.consistency import group_notes
from lm_eval_trust.leaderboard.correction import with_corrections
from lm_eval_trust.leaderboard.coverage import answer_notes, question_notes
from lm_eval_trust.leaderboard.identity import arguments_of, provenance_of
from lm_eval_trust.leaderboard.items import Samples, Strata, averaged, strata_of
from lm_eval_trust.leaderboard.layout import columns_of, leaves
from lm_eval_trust.leaderboard.names import chosen_name, unique_names
from lm_eval_trust.leaderboard.paper import with_reported
from lm_eval_trust.leaderboard.ranking import (
    general_columns,
    pareto_front,
    tradeoffs,
    trust_columns,
    win_rates,
)
from lm_eval_trust.leaderboard.resampling import Pairs, compare_rows, standings_of
from lm_eval_trust.leaderboard.rows import RunGroup, group_runs, score_of
from lm_eval_trust.leaderboard.steered import beside_controls, beside_notes, with_effects
from lm_eval_trust.leaderboard.testing import (
    check_primary,
    family_notes,
    primary_columns,
    tested_pairs,
)

Names = Mapping[str, str]
#: Arguments of models that are not plain.
_CHANGES = ("adapter", "expert", "antiexpert", "peft", "delta")


@dataclass(frozen=True)
class BoardSettings:
    """How a leaderboard is made.

    Attributes:
        names: Fingerprint or path → name of a row.
        reference: Name of the row that others are compared with; by default the first plain one
            of each board.
        pairs: Which rows are tested against each other: each with the ``reference``, or ``all``.
            p is corrected for the number of tests, so more tests mean less power for each.
        primary: Titles, tasks or keys of the columns whose tests are the primary family, declared
            before the results are seen; by default the paper's headline columns.
        with_paper: Whether the rows that the paper reports are shown.
        confidence: Confidence of intervals, between 0 and 1.
        seed: Seed of the random signs of corrections, and of the correlations' permutations.
    """

    names: Names = field(default_factory=dict)
    reference: str = ""
    pairs: Literal["reference", "all"] = "reference"
    primary: tuple[str, ...] = ()
    with_paper: bool = False
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence is {self.confidence}; expected a number between 0 and 1.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected a whole number of at least 0.")


def build_boards(
    runs: Iterable[SavedRun],
    *,
    settings: BoardSettings | None = None,
    samples: Samples | None = None,
) -> tuple[Board, ...]:
    """Return the boards of these runs, each of rows that compare with each other.

    Args:
        runs: Saved results.
        settings: How the boards are made.
        samples: Samples that were read before.

    Raises:
        InputError: Two runs of one model and settings have different scores, samples are damaged,
            a name fits no run, or no row has the reference's name.
    """
    settings, samples = settings or BoardSettings(), samples or Samples()
    sets = split_comparable(group_runs(runs))
    names = [_names(rows, settings.names) for rows in sets]
    _refuse_unused_names(sets, settings.names)
    known = {name for of_set in names for name in of_set}
    if settings.reference and settings.reference not in known:
        raise unknown_name("reference row", settings.reference, known)
    check_primary((c for of_set in sets for c in columns_of(_runs(of_set))), settings.primary)
    boards = []
    for i, rows in enumerate(sets):
        others = [
            (name, group)
            for j, other in enumerate(sets)
            if j != i
            for name, group in zip(names[j], other.groups, strict=True)
        ]
        board = _board(rows, names[i], samples, settings)
        boards.append(replace(board, kept_apart=exclusion_reasons(rows, others)))
    return with_reported(boards) if settings.with_paper else tuple(boards)


def _runs(comparable: ComparableRows) -> list[SavedRun]:
    return [run for group in comparable.groups for run in group.runs]


def _names(rows: ComparableRows, given: Names) -> list[str]:
    chosen = [chosen_name(group.runs, given)[0] for group in rows.groups]
    return unique_names([(n, g.runs) for n, g in zip(chosen, rows.groups, strict=True)])


def _refuse_unused_names(sets: Iterable[ComparableRows], given: Names) -> None:
    groups = [group for rows in sets for group in rows.groups]
    used = {place for group in groups for place in chosen_name(group.runs, given)[1]}
    for place in given:
        if place not in used:
            raise InputError(
                f"--names {place}={given[place]} fits no run; give the beginning of a "
                f"trust_fingerprint (6 characters or more), a results file or its folder."
            )


def _board(
    comparable: ComparableRows, names: Sequence[str], samples: Samples, settings: BoardSettings
) -> Board:
    columns = columns_of(_runs(comparable))
    named = list(zip(comparable.groups, names, strict=True))
    rows = tuple(_row(group, name, columns, samples) for group, name in named)
    items = {
        column.key: strata_of(_having(rows, column), column, samples)
        for column in progress_bar(columns, "Reading samples", unit="column")
    }
    reference = _reference(rows, settings)
    wanted = {key: _wanted(list(found), reference, settings) for key, found in items.items()}
    compared = {
        key: compare_rows(found, wanted[key], confidence=settings.confidence)
        for key, found in progress_bar(items.items(), "Comparing rows", unit="column")
    }
    shared = (shared_notes(c, items[c.key], wanted[c.key], compared[c.key]) for c in columns)
    primary = primary_columns(columns, settings.primary)
    pairs = tested_pairs(compared, primary, settings.confidence, settings.seed)
    beside = beside_controls(columns, rows, items, settings.confidence)
    board = Board(
        columns=columns,
        rows=rows,
        pairs=tuple(with_effects(pairs, columns, items)),
        reference=reference,
        win_rates=win_rates(columns, rows),
        front=pareto_front(columns, rows),
        categories=_categories(columns, rows, items, samples),
        primary=primary,
        standings=_standings(columns, items, settings.confidence),
        beside=beside,
        notes=(
            *beside_notes(columns, beside),
            *doubtful_notes(rows, samples),
            *answer_notes(columns, rows),
            *question_notes(rows),
            *judge_notes(rows),
            *untested_notes(columns, rows, items),
            *family_notes(columns, pairs),
            *few_group_notes(columns, compared),
            *(note for notes in shared for note in notes),
        ),
        confidence=settings.confidence,
    )
    if reference is not None:
        board = _with_tradeoffs(board, reference, compared, items, settings)
    return with_corrections(board, samples)


def _standings(
    columns: Iterable[Column], items: Mapping[str, Mapping[str, Strata]], confidence: float
) -> dict[str, dict[str, Standing]]:
    every = {
        c.key: standings_of(items[c.key], confidence, higher_is_better=c.higher_is_better)
        for c in columns
        if c.higher_is_better is not None
    }
    return {key: found for key, found in every.items() if found}


def _categories(
    columns: Iterable[Column],
    rows: Iterable[Row],
    items: Mapping[str, Mapping[str, Strata]],
    samples: Samples,
) -> dict[str, tuple[Category, ...]]:
    rows = list(rows)
    every = {
        c.key: categories_of(items[c.key])
        or recorded_categories(c, [row for row in rows if c.key in row.scores], samples)
        for c in columns
        if c.dimension != SUITE
    }
    return {key: found for key, found in every.items() if found}


def _row(group: RunGroup, name: str, columns: Iterable[Column], samples: Samples) -> Row:
    """Return a row with its scores, without those that mean nothing."""
    scores = {
        column.key: score
        for column in columns
        if not any(samples.means_nothing(run, column) for run in group.runs)
        and (score := score_of(group.runs, column)) is not None
    }
    return Row(name, scores, group.runs, provenance_of(group.runs))


def _having(rows: Iterable[Row], column: Column) -> dict[str, tuple[SavedRun, ...]]:
    return {row.name: row.runs for row in rows if column.key in row.scores}


def _reference(rows: Sequence[Row], settings: BoardSettings) -> str | None:
    if settings.reference in [row.name for row in rows]:
        return settings.reference
    plain = (
        row.name
        for row in rows
        if row.scores and _is_plain(row) and not row.provenance.get(PREFIXES)
    )
    return next(plain, None) if len(rows) > 1 else None


def _is_plain(row: Row) -> bool:
    arguments = arguments_of(row.runs[0])
    changed = row.provenance["steering"] or row.provenance["trained_on"]
    return not changed and not any(name in arguments for name in _CHANGES)


def _wanted(
    names: Sequence[str], reference: str | None, settings: BoardSettings
) -> list[tuple[str, str]]:
    if settings.pairs == "all" or reference is None:
        first = [name for name in names if name == reference]
        return list(itertools.combinations([*first, *(n for n in names if n != reference)], 2))
    return [(reference, name) for name in names if name != reference and reference in names]


def _with_tradeoffs(
    board: Board,
    reference: str,
    compared: Mapping[str, Pairs],
    items: Mapping[str, Mapping[str, Strata]],
    settings: BoardSettings,
) -> Board:
    columns = [c for c in general_columns(board.columns) if reference in items[c.key]]
    general = {
        row.name: averaged([items[c.key][row.name] for c in columns])
        for row in board.rows
        if columns and all(row.name in items[c.key] for c in columns)
    }
    changes = compare_rows(
        general,
        [(reference, name) for name in general if name != reference],
        confidence=settings.confidence,
    )
    return replace(
        board,
        tradeoffs=tradeoffs(
            trust_columns(board.columns),
            {key: _of_reference(found, reference) for key, found in compared.items()},
            _of_reference(changes, reference),
            seed=settings.seed,
        ),
    )


def _of_reference(found: Pairs, reference: str) -> dict[str, Comparison]:
    return {second: c.comparison for (first, second), c in found.items() if first == reference}


def doubtful_notes(rows: Iterable[Row], samples: Samples) -> list[str]:
    """Return which scores mean nothing, or are not those of their tasks, a row at a time."""
    return list(
        dict.fromkeys(
            f"{row.name}: {note}"
            for row in rows
            for run in row.runs
            for note in (*samples.notes(run), *group_notes(run))
        )
    )


def judge_notes(rows: Iterable[Row]) -> list[str]:
    """Return a note for each judge: its name, and its agreement with labelled texts."""
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
    """Return which rows have scores that could not be tested, and why.

    Args:
        columns: Columns of the board.
        rows: The same.
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
    compared: Pairs,
) -> list[str]:
    """Return which pairs were compared on only some of their items, or on none.

    Args:
        column: Column of the scores.
        items: Name of a row → its items.
        pairs: Those to be compared.
        compared: Those that could be.
    """
    found = []
    for pair in pairs:
        shared = compared[pair].comparison.items if pair in compared else 0
        most = max(sum(len(stratum.items) for stratum in items[name]) for name in pair)
        if shared < most:
            found.append(f"{pair[0]} and {pair[1]} share {shared} of {most} items")
    return [f"{column.title}: {', '.join(found)}; only these are compared."] if found else []


def few_group_notes(columns: Iterable[Column], compared: Mapping[str, Pairs]) -> list[str]:
    """Return which columns rest on so few groups of items that intervals may be too short."""
    few = {
        column.title: fewest
        for column in columns
        if compared[column.key]
        and (fewest := min(len(pair.groups) for pair in compared[column.key].values())) < FEW_GROUPS
    }
    named = ", ".join(f"{title} ({number})" for title, number in few.items())
    return (
        [
            f"Fewer than {FEW_GROUPS} groups of items: {named}. Intervals may be too short there, "
            f"and a single group has none."
        ]
        if few
        else []
    )


def _why(row: Row, column: Column) -> str:
    saved = (
        run.samples_file(task).exists() for run in row.runs for task in leaves(run, column.task)
    )
    if all(saved):
        return "the score is not a mean over items"
    return "samples were not saved (--log_samples)"

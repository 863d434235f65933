"""Families of tests on a board: the declared primary one, and that of all other columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lm_eval_trust.analysis.families import Adjusted, TestBlock, step_down
from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.leaderboard.board import FURTHER, PRIMARY, Column, Pair
from lm_eval_trust.leaderboard.resampling import PairedRows, Pairs

#: Column's key, and the names of both rows.
_Place = tuple[str, tuple[str, str]]


def primary_columns(columns: Sequence[Column], named: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the columns whose tests are the primary family.

    Args:
        columns: Columns of the board.
        named: Titles, tasks or keys of columns, which every board may lack; by default the paper's
            headline columns: parts (Truth, Info) and means (the suite) follow from others.
    """
    if not named:
        return tuple(column.key for column in columns if column.headline)
    return tuple(c.key for c in columns if {c.key, c.title, c.task} & set(named))


def check_primary(columns: Iterable[Column], named: Sequence[str]) -> None:
    """Raise unless each name is that of a column.

    Raises:
        InputError: There is no such column.
    """
    known = {name for c in columns for name in (c.title, c.task, c.key)}
    for name in named:
        if name not in known:
            raise unknown_name("primary column", name, known)


def tested_pairs(
    compared: Mapping[str, Pairs], primary: Sequence[str], confidence: float, seed: int
) -> tuple[Pair, ...]:
    """Return the comparisons, corrected within the primary family and within that of the others.

    Args:
        compared: Column's key → the pairs that could be compared.
        primary: Keys of the primary family's columns.
        confidence: At which the intervals of a family hold together.
        seed: Seed of the random signs.
    """
    found: dict[_Place, Pair] = {}
    for family in (PRIMARY, FURTHER):
        chosen = {
            (key, pair): one
            for key, pairs in compared.items()
            if (key in primary) == (family == PRIMARY)
            for pair, one in pairs.items()
        }
        places, blocks = _blocks(chosen)
        adjusted = step_down(blocks, confidence, seed=seed)
        found.update(_family(chosen, places, adjusted, family))
    return tuple(found[key, pair] for key, pairs in compared.items() for pair in pairs)


def _blocks(tests: Mapping[_Place, PairedRows]) -> tuple[list[_Place], list[TestBlock]]:
    """Return tests on the same groups of a column as blocks, and the order that this gives."""
    alike: dict[tuple[str, tuple[str, ...]], list[_Place]] = {}
    for place, test in tests.items():
        alike.setdefault((place[0], test.groups), []).append(place)
    blocks = [
        TestBlock(groups, [tests[place].differences for place in places])
        for (_, groups), places in alike.items()
    ]
    return [place for places in alike.values() for place in places], blocks


def _family(
    tests: Mapping[_Place, PairedRows], places: Sequence[_Place], adjusted: Adjusted, family: str
) -> Iterator[tuple[_Place, Pair]]:
    for place, p, counted in zip(places, adjusted.p, adjusted.counted, strict=True):
        key, (first, second) = place
        test = tests[place]
        # A step-down p is never below its own test's, which may be exact where signs are drawn.
        p = max(float(p), test.comparison.p)
        interval = test.interval(adjusted.level)
        yield place, Pair(first, second, key, test.comparison, p, interval, family, bool(counted))


def family_notes(columns: Sequence[Column], pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield what the families are, and which comparisons do not count as tests."""
    titles = {column.key: column.title for column in columns}
    for family in (PRIMARY, FURTHER):
        of_family = [pair for pair in pairs if pair.family == family]
        if not of_family:
            continue
        named = ", ".join(dict.fromkeys(titles[pair.column] for pair in of_family))
        counted = sum(pair.counted for pair in of_family)
        which = "The primary family" if family == PRIMARY else "The family of further columns"
        yield f"{which} has {counted} test{'s'[: counted != 1]} ({named})."
        idle = [pair for pair in of_family if not pair.counted]
        if idle:
            yield (
                f"{len(idle)} of its comparisons {'do' if len(idle) > 1 else 'does'} not count as "
                f"tests, as no item differs or another column or row has the same differences: "
                f"{_listed(idle, titles)}."
            )


def _listed(pairs: Sequence[Pair], titles: Mapping[str, str], most: int = 5) -> str:
    named = [f"{titles[p.column]} of {p.first} and {p.second}" for p in pairs]
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(named[:most]) + more

"""How steered rows compare with their control arms, and what they do to single items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lm_eval_trust.analysis.effects import Effects, effects_of
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.saved_runs import CONTROL, PREFIXES
from lm_eval_trust.evaluate.controls import LEAST, against_random, smallest_step
from lm_eval_trust.leaderboard.board import Beside, Column, Pair, Row
from lm_eval_trust.leaderboard.items import Strata, Value, mean
from lm_eval_trust.leaderboard.resampling import compare_rows

#: Column's key → row's name → its items.
Items = Mapping[str, Mapping[str, Strata]]


def beside_controls(
    columns: Sequence[Column], rows: Sequence[Row], items: Items, confidence: float
) -> tuple[Beside, ...]:
    """Return each steered row with the control arms that say they are its.

    Args:
        columns: Columns of the board.
        rows: The same.
        items: Items of its scores.
        confidence: Confidence of the intervals.
    """
    found: list[Beside] = []
    for row in rows:
        arms = [other for other in rows if _is_arm(other, row)]
        for column in columns if arms else ():
            if column.higher_is_better is None:
                continue
            of_column = items[column.key]
            known = [arm for arm in arms if arm.name in of_column and row.name in of_column]
            found += _one_by_one(column, row, known, of_column, confidence)
            found += _random(column, row, known, of_column, confidence)
    return tuple(found)


def _is_arm(arm: Row, row: Row) -> bool:
    control, own = arm.provenance.get(CONTROL), row.provenance.get("steering_fingerprint")
    apart = row.provenance.get(CONTROL) is not None or row.provenance.get(PREFIXES)
    steered = bool(row.provenance.get("steering")) and not apart
    return steered and control is not None and control["of"] == own


def _one_by_one(
    column: Column, row: Row, arms: Sequence[Row], items: Mapping[str, Strata], confidence: float
) -> Iterator[Beside]:
    others = [arm for arm in arms if arm.provenance[CONTROL]["kind"] != "random"]
    pairs = compare_rows(items, [(arm.name, row.name) for arm in others], confidence=confidence)
    for arm in others:
        if (arm.name, row.name) in pairs:
            found = pairs[arm.name, row.name].comparison
            gain = _upward(found.difference, column)
            better = gain.low > 0
            name = arm.provenance[CONTROL]["arm"]
            arm_names = (arm.name,)
            yield Beside(row.name, column.key, name, arm_names, int(better), gain, found.p, better)


def _random(
    column: Column, row: Row, arms: Sequence[Row], items: Mapping[str, Strata], confidence: float
) -> Iterator[Beside]:
    def values_of(name: str) -> dict[str, float]:
        return {key: each.value for stratum in items[name] for key, each in stratum.items.items()}

    same = [
        arm
        for arm in arms
        if arm.provenance[CONTROL]["kind"] == "random"
        and values_of(arm.name).keys() == values_of(row.name).keys()
    ]
    if len(same) < LEAST["random"]:
        return
    sign = 1 if column.higher_is_better else -1
    value = sign * mean(items[row.name])
    values = [sign * mean(items[arm.name]) for arm in same]
    tried = max(int(arm.provenance[CONTROL]["tried"]) for arm in same)
    step = smallest_step(values_of(row.name), [values_of(arm.name) for arm in same])
    found = against_random(value, values, tried=tried, step=step)
    middle, half = value - sum(values) / len(values), found.reach(confidence)
    yield Beside(
        row.name,
        column.key,
        "random",
        tuple(arm.name for arm in same),
        found.beaten,
        Interval(middle, middle - half, middle + half),
        found.p,
        found.is_more,
    )


def _upward(found: Interval, column: Column) -> Interval:
    if column.higher_is_better:
        return found
    return Interval(-found.mean, -found.high, -found.low)


def beside_notes(columns: Sequence[Column], found: Sequence[Beside]) -> list[str]:
    """Return for each steered row by how much it beats its controls, a line per column."""
    titles = {column.key: column.title for column in columns}
    lines: dict[tuple[str, str], list[str]] = {}
    for each in found:
        gain = f"{each.gain.mean:+.3f} [{each.gain.low:+.3f}, {each.gain.high:+.3f}]"
        if each.control == "random":
            verdict = "" if each.is_more else ", so it is not shown to do more than they do"
            said = (
                f"beats {each.beaten} of {len(each.arms)} random directions of the same length "
                f"(p = {each.p:.2g}{verdict})"
            )
        else:
            said = f"gains {gain} over the control {each.control}"
        lines.setdefault((each.row, titles[each.column]), []).append(said)
    return [f"{row}, {title}: {'; '.join(said)}." for (row, title), said in lines.items()]


def with_effects(pairs: Sequence[Pair], columns: Sequence[Column], items: Items) -> list[Pair]:
    """Return pairs with what the second row does to the items of the first."""
    ways = {c.key: c.higher_is_better for c in columns if c.higher_is_better is not None}
    return [
        replace(pair, effects=_effects(ways[pair.column], pair, items[pair.column]))
        if pair.column in ways
        else pair
        for pair in pairs
    ]


def _effects(
    higher_is_better: bool, pair: Pair, items: Mapping[str, Strata]
) -> tuple[Effects, ...]:
    first, second = (_values(items[name]) for name in (pair.first, pair.second))
    shared = [key for key in first if key in second]
    by_category: dict[str, list[str]] = {"": shared}
    for key in shared:
        for category in first[key].categories:
            by_category.setdefault(category, []).append(key)
    names = sorted(by_category)
    # A single category says what all items do.
    return tuple(
        effects_of(
            [first[key].value for key in by_category[name]],
            [second[key].value for key in by_category[name]],
            [first[key].group for key in by_category[name]],
            higher_is_better=higher_is_better,
            category=name,
        )
        for name in (names if len(names) > 2 else names[:1])
    )


def _values(strata: Strata) -> dict[str, Value]:
    return {key: value for stratum in strata for key, value in stratum.items.items()}

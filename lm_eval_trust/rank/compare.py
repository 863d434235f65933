"""What the test half says: each arm against the unsteered model, a prompt, and random directions.

A dimension's comparisons of all methods at all costs with the unsteered model are one family of
tests, all pairs of methods at the same cost another; both are corrected by step-down
(:func:`lm_eval_trust.analysis.families.step_down`). The p against random directions is corrected
within the dimension by :func:`lm_eval_trust.analysis.multiplicity.beyond_reference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lm_eval_trust.analysis.comparison import Comparison, p_of
from lm_eval_trust.analysis.families import Difference, TestBlock, step_down
from lm_eval_trust.analysis.multiplicity import beyond_reference
from lm_eval_trust.analysis.statistics import Floats, GroupTotals, Interval, mean_interval
from lm_eval_trust.evaluate.controls import LEVEL, AgainstRandom, against_random
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.paired_items import Item, common_items, compare_items, values_of
from lm_eval_trust.rank.arms import METHOD, RANDOM
from lm_eval_trust.rank.run import Entry, PanelResult
from lm_eval_trust.sweep.search import score_of

Pair = tuple[Sequence[Item], Sequence[Item]]
#: An action at a cost.
Column = tuple[str, float]


@dataclass(frozen=True)
class Row:
    """An arm at a cost on one task of the test half.

    Attributes:
        entry: The arm with its strength; ``None`` for the unsteered model and the prompt.
        name: Name of the arm.
        kind: ``method``, ``random``, ``shuffled``, ``sign``, ``unsteered`` or ``prompt``.
        task: Name of the task.
        items: Number of items with a value of the metric.
        without: Number of items without one.
        value: Mean of the metric with its interval.
        change: Against the unsteered model, over the items that have a value under both; ``None``
            for that itself, and without such an item.
        p_family: p of a method's change, corrected within its dimension; NaN for controls.
        over_prompt: By how much a method is ahead of the prompt, paired.
    """

    entry: Entry | None
    name: str
    kind: str
    task: str
    items: int
    without: int
    value: Interval
    change: Comparison | None = None
    p_family: float = math.nan
    over_prompt: Comparison | None = None


@dataclass(frozen=True)
class Standing:
    """A method at a cost, compared with the random directions of the same cost.

    Attributes:
        entry: The method.
        gain: Gain of the score, the mean over tasks, against the unsteered model; NaN where the
            cost is not reached.
        beside: Comparison with the random directions; ``None`` if fewer than three reach the cost.
        p: That p, corrected for the dimension's methods and costs.
        prompt: Gain of the prompt; NaN without one.
    """

    entry: Entry
    gain: float
    beside: AgainstRandom | None
    p: float
    prompt: float

    @property
    def is_more(self) -> bool:
        """Whether the method does more than random directions of the same cost do."""
        return is_more(self.beside, self.p)


@dataclass(frozen=True)
class Duel:
    """Two methods at the same cost on a task.

    Attributes:
        cost: In nats per token.
        task: Name of the task.
        first: A method.
        second: Another.
        difference: Second minus first, paired.
        p_family: Corrected for all pairs and costs of the dimension.
    """

    cost: float
    task: str
    first: str
    second: str
    difference: Comparison
    p_family: float


def is_more(beside: AgainstRandom | None, p: float) -> bool:
    """Tell whether a method beats all random directions, with a corrected p that shows it."""
    return beside is not None and beside.beaten == beside.arms and p <= LEVEL


def usable(entry: Entry, metric: str) -> bool:
    """Tell whether an entry was measured, is finite throughout, and has a score on each task."""
    return entry.outcome is not None and _has_scores(entry.outcome, metric)


def _has_scores(outcome: Outcome, metric: str) -> bool:
    scores = [found.scores[metric] for found in outcome.measurements.values()]
    return not outcome.nonfinite and all(map(math.isfinite, scores))


def rows_of(result: PanelResult) -> list[Row]:
    """Return all arms of a panel on the test half, the unsteered model first."""
    metric = result.panel.spec.metric
    before: Mapping[str, Sequence[Item]] = result.unsteered.items
    rows = [_row(None, "unsteered", "unsteered", task, i, metric) for task, i in before.items()]
    prompted = result.prompt
    if prompted is not None and not _has_scores(prompted, metric):
        prompted = None
    if prompted is not None:
        for task, answers in prompted.items.items():
            change = compare_items(before[task], answers, metric)
            rows.append(_row(None, "prompt", "prompt", task, answers, metric, change))
    for entry in result.entries:
        if not usable(entry, metric):
            continue
        for task, items in _items(entry).items():
            change = compare_items(before[task], items, metric)
            over = None
            if prompted is not None and entry.arm.kind == METHOD:
                over = compare_items(prompted.items[task], items, metric)
            arm = entry.arm
            rows.append(_row(entry, arm.name, arm.kind, task, items, metric, change, over))
    return _corrected(rows, before, metric)


def unmoved(result: PanelResult) -> list[str]:
    """Return the tasks on which no arm, nor the prompt, changes any item's score."""
    metric = result.panel.spec.metric
    others = [_items(entry) for entry in result.entries if usable(entry, metric)]
    if result.prompt is not None:
        others.append(result.prompt.items)
    return [
        task
        for task, items in result.unsteered.items.items()
        if others
        and all(values_of(each[task], metric) == values_of(items, metric) for each in others)
    ]


def standings_of(result: PanelResult) -> list[Standing]:
    """Return each method at each cost, compared with the random directions of that cost."""
    spec = result.panel.spec

    def gain(outcome: Outcome) -> float:
        return score_of(outcome, spec.tasks, spec.metric) - unsteered

    unsteered = score_of(result.unsteered, spec.tasks, spec.metric)
    gains: dict[str, dict[str, dict[Column, float]]] = {METHOD: {}, RANDOM: {}}
    for entry in result.entries:
        if entry.arm.kind in gains and usable(entry, spec.metric) and entry.outcome is not None:
            rows = gains[entry.arm.kind]
            row = entry.arm.name.removesuffix(f" {entry.arm.action}")
            rows.setdefault(row, {})[_column(entry)] = gain(entry.outcome)
    outcomes = [
        e.outcome for e in result.entries if usable(e, spec.metric) and e.outcome is not None
    ]
    step = result.unsteered.step(outcomes, spec.metric)
    besides = besides_random(gains[METHOD], gains[RANDOM], step)
    prompt = math.nan if result.prompt is None else gain(result.prompt)
    found = []
    for entry in result.entries:
        if entry.arm.kind == METHOD:
            row, column = entry.arm.name.removesuffix(f" {entry.arm.action}"), _column(entry)
            beside, p = besides.get((row, column), (None, math.nan))
            own = gains[METHOD].get(row, {}).get(column, math.nan)
            found.append(Standing(entry, own, beside, p, prompt))
    return found


def _column(entry: Entry) -> Column:
    return entry.arm.action, entry.strength.cost


def besides_random(
    gains: Mapping[str, Mapping[Column, float]],
    randoms: Mapping[str, Mapping[Column, float]],
    step: float,
) -> dict[tuple[str, Column], tuple[AgainstRandom, float]]:
    """Compare methods with random directions that went through the same choices.

    Args:
        gains: Method → action and cost → its gain, where it was measured.
        randoms: The same of the random directions, those of the same number in one row.
        step: The least by which a gain can move.

    Returns:
        Method with action and cost → the comparison, and its p corrected for all of them; nothing
        where fewer than three random directions were measured.
    """
    columns = list(dict.fromkeys(column for row in gains.values() for column in row))

    def table(rows: Mapping[str, Mapping[Column, float]]) -> Floats:
        found = [[row.get(column, math.nan) for column in columns] for row in rows.values()]
        return np.array(found).reshape(len(rows), len(columns))

    corrected, found = beyond_reference(table(gains), table(randoms), step=step), {}
    for (name, row), of_row in zip(gains.items(), corrected, strict=True):
        for column, p in zip(columns, of_row.tolist(), strict=True):
            if not math.isnan(p):
                others = [each[column] for each in randoms.values() if column in each]
                # Their layers were chosen as the method's were, so one was tried.
                found[name, column] = against_random(row[column], others, tried=1, step=step), p
    return found


def duels_of(result: PanelResult) -> list[Duel]:
    """Return all pairs of methods at the same cost, task by task, that share items with a value."""
    metric = result.panel.spec.metric
    methods = [e for e in result.entries if e.arm.kind == METHOD and usable(e, metric)]
    places = [
        (task, first, second)
        for task in result.unsteered.items
        for number, first in enumerate(methods)
        for second in methods[number + 1 :]
        if first.strength.cost == second.strength.cost
    ]
    pairs = {
        number: (_items(first)[task], _items(second)[task])
        for number, (task, first, second) in enumerate(places)
    }
    compared = {number: compare_items(*pair, metric) for number, pair in pairs.items()}
    pairs = {number: pair for number, pair in pairs.items() if compared[number] is not None}
    corrected = _family(pairs, metric, lambda number: places[number][0])
    return [
        Duel(
            first.strength.cost,
            task,
            first.arm.name,
            second.arm.name,
            difference,
            corrected[number],
        )
        for number, (task, first, second) in enumerate(places)
        if (difference := compared[number]) is not None
    ]


def _corrected(rows: Sequence[Row], before: Mapping[str, Sequence[Item]], metric: str) -> list[Row]:
    pairs = {
        number: (before[row.task], _items(row.entry)[row.task])
        for number, row in enumerate(rows)
        if row.kind == METHOD and row.entry is not None and row.change is not None
    }
    found = _family(pairs, metric, lambda number: rows[number].task)
    return [
        Row(**{**vars(row), "p_family": found[number]}) if number in found else row
        for number, row in enumerate(rows)
    ]


def _family(
    pairs: Mapping[int, Pair], metric: str, task_of: Callable[[int], str]
) -> dict[int, float]:
    """Return p of each pair, corrected for all of them; each has items with a value under both."""
    alike: dict[tuple[str, tuple[str, ...]], dict[int, GroupTotals]] = {}
    single = {}
    for number, pair in pairs.items():
        common = common_items(*pair, metric)
        first, second = (np.array([float(item[metric]) for item in items]) for items in common)
        groups = [item["group"] for item in common[0]]
        totals = GroupTotals.of(second - first, groups)
        single[number] = p_of(first, second, totals)[0]
        alike.setdefault((task_of(number), tuple(dict.fromkeys(groups))), {})[number] = totals
    blocks = [
        TestBlock(names, [[Difference(1.0, totals)] for totals in tests.values()])
        for (_, names), tests in alike.items()
    ]
    order = [number for tests in alike.values() for number in tests]
    adjusted = step_down(blocks).p if blocks else ()
    # A step-down p is never below its own test's, which may be exact where signs are drawn.
    return {
        number: max(float(p), single[number]) for number, p in zip(order, adjusted, strict=True)
    }


def _row(
    entry: Entry | None,
    name: str,
    kind: str,
    task: str,
    items: Sequence[Item],
    metric: str,
    change: Comparison | None = None,
    over: Comparison | None = None,
) -> Row:
    known = [item for item in items if metric in item]
    values = [float(item[metric]) for item in known]
    low, high = mean_interval(values, [item["group"] for item in known])
    value = Interval(sum(values) / len(values), low, high)
    without = len(items) - len(known)
    return Row(entry, name, kind, task, len(known), without, value, change, over_prompt=over)


def _items(entry: Entry | None) -> Mapping[str, Sequence[Item]]:
    assert entry is not None
    assert entry.outcome is not None
    return entry.outcome.items


def winners(standings: Sequence[Standing]) -> Iterator[Standing]:
    """Yield the method that gains most at each cost, costs ascending."""
    for cost in sorted({one.entry.strength.cost for one in standings}):
        at_cost = [
            one for one in standings if one.entry.strength.cost == cost and not math.isnan(one.gain)
        ]
        if at_cost:
            yield max(at_cost, key=lambda one: one.gain)

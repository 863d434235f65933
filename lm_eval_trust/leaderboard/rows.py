"""Runs grouped into rows: a model's seeds together, and the tasks that it was run on separately."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import JUDGED_FROM, SavedRun
from lm_eval_trust.leaderboard.board import Column, Score
from lm_eval_trust.leaderboard.coverage import coverage_of
from lm_eval_trust.leaderboard.identity import (
    Identity,
    RowSettings,
    Settings,
    identity_of,
    settings_of,
    without_seeds,
)
from lm_eval_trust.leaderboard.layout import leaves, numbers, recorded_interval, stderr


@dataclass(frozen=True)
class DescribedRun:
    """A run with its model's identity and its tasks' settings.

    Attributes:
        run: The run.
        identity: Which model.
        settings: Task → settings.
    """

    run: SavedRun
    identity: Identity
    settings: Mapping[str, Settings]

    @classmethod
    def of(cls, run: SavedRun) -> DescribedRun:
        """Read a run."""
        return cls(run, identity_of(run), settings_of(run))

    def without(self, tasks: Set[str]) -> DescribedRun:
        """Return the run without these tasks, and without groups of only these."""
        groups = self.run.results.get("group_subtasks") or {}
        dropped = tasks | {name for name in groups if set(leaves(self.run, name)) <= tasks}
        parts: dict[str, Any] = {
            part: {name: v for name, v in self.run.results[part].items() if name not in dropped}
            for part in ("results", "groups", "configs")
            if part in self.run.results
        }
        return DescribedRun.of(replace(self.run, results={**self.run.results, **parts}))


@dataclass
class RunGroup:
    """Runs of one row: one model apart from seeds, on tasks with the same settings.

    Attributes:
        members: The runs, described.
    """

    members: list[DescribedRun] = field(default_factory=list)

    @property
    def runs(self) -> tuple[SavedRun, ...]:
        """The runs themselves."""
        return tuple(each.run for each in self.members)

    @property
    def settings(self) -> RowSettings:
        """Task → the settings of all runs."""
        found: dict[str, list[Settings]] = {}
        for each in self.members:
            for task, settings in each.settings.items():
                of_task = found.setdefault(task, [])
                if settings not in of_task:
                    of_task.append(settings)
        return {task: tuple(of_task) for task, of_task in found.items()}

    def accepts(self, new: DescribedRun) -> bool:
        """Tell whether a run belongs to this row."""
        return all(_same_row(old, new) for old in self.members)

    def add(self, new: DescribedRun) -> None:
        """Add a run; tasks that are already there with the same scores count once.

        Raises:
            InputError: The same model has other scores under the same settings and seeds.
        """
        repeated: set[str] = set()
        for old in self.members:
            if _same_seeds(old, new):
                shared = set(old.settings) & set(new.settings)
                same = {task for task in shared if old.settings[task] == new.settings[task]}
                _refuse_other_figures(old.run, new.run, same)
                repeated |= same
        if repeated < set(new.settings):
            self.members.append(new.without(repeated))


def group_runs(runs: Iterable[SavedRun]) -> list[RunGroup]:
    """Return rows in the order of their first runs.

    Raises:
        InputError: Two runs of the same model and settings have different scores.
    """
    groups: list[RunGroup] = []
    for run in runs:
        described = DescribedRun.of(run)
        group = next((group for group in groups if group.accepts(described)), None)
        if group is None:
            group = RunGroup()
            groups.append(group)
        group.add(described)
    return groups


def score_of(runs: Sequence[SavedRun], column: Column) -> Score | None:
    """Return a row's score: the mean over its runs; ``None`` if no run has the column."""
    place = (column.metric, column.filter)
    having = [run for run in runs if place in numbers(run, column.task)]
    if not having:
        return None
    values = [numbers(run, column.task)[place] for run in having]
    errors = [error for run in having if (error := stderr(run, column)) is not None]
    whole = len(errors) == len(values)
    coverage = coverage_of(having, column)
    return Score(
        value=statistics.fmean(values),
        stderr=math.sqrt(statistics.fmean(e * e for e in errors)) if whole else None,
        items=None if coverage.asked is None else round(coverage.asked / len(values)),
        seeds=len(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        asked=coverage.asked,
        answered=coverage.answered,
        unanswered=coverage.unanswered,
        interval=_interval(having, column),
    )


def _interval(runs: Sequence[SavedRun], column: Column) -> Interval | None:
    """Return the interval that results have, as the mean over runs; ``None`` if one has none."""
    found = [recorded_interval(run, column.task, column.metric, column.filter) for run in runs]
    known = [(f.mean, f.low, f.high) for f in found if f is not None]
    if len(known) < len(runs):
        return None
    return Interval(*(statistics.fmean(of) for of in zip(*known, strict=True)))


def _same_row(old: DescribedRun, new: DescribedRun) -> bool:
    if old.identity.seedless != new.identity.seedless:
        return False
    other_model = old.identity.whole != new.identity.whole
    if other_model and old.identity.seeds == new.identity.seeds:
        return False  # same seeds, so something else differs: weights changed under one name
    if _judged(old.run) != _judged(new.run):
        return False
    shared = set(old.settings) & set(new.settings)
    return all(
        without_seeds(old.settings[task]) == without_seeds(new.settings[task]) for task in shared
    )


def _judged(run: SavedRun) -> bool:
    return JUDGED_FROM in run.results


def _same_seeds(old: DescribedRun, new: DescribedRun) -> bool:
    return old.identity.whole == new.identity.whole


def _refuse_other_figures(old: SavedRun, new: SavedRun, tasks: Iterable[str]) -> None:
    for task in sorted(tasks):
        before, after = numbers(old, task), numbers(new, task)
        for place in before:
            if place in after and not math.isclose(before[place], after[place], abs_tol=1e-9):
                raise InputError(
                    f"{old.path} and {new.path} are runs of the same model with the same settings, "
                    f"but {task} has {place[0]} {before[place]:g} in the one and "
                    f"{after[place]:g} in the other; leave one of them out."
                )

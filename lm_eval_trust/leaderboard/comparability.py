"""Which rows compare: those whose shared tasks were evaluated with the same settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lm_eval_trust.leaderboard.identity import DATA_FINGERPRINT, RowSettings, Settings
from lm_eval_trust.leaderboard.rows import RunGroup


@dataclass
class ComparableRows:
    """Rows without a conflict between any two of them.

    Attributes:
        groups: The runs of each row.
    """

    groups: list[RunGroup] = field(default_factory=list)

    @property
    def settings(self) -> RowSettings:
        """Task → settings, which all rows with that task share."""
        return {task: found for group in self.groups for task, found in group.settings.items()}

    def accepts(self, rows: RunGroup | ComparableRows) -> bool:
        """Tell whether other rows share a task with these and conflict with none of them."""
        ours, theirs = self.settings, rows.settings
        return bool(set(ours) & set(theirs)) and not any(conflicts(ours, theirs))


def split_comparable(groups: Iterable[RunGroup]) -> list[ComparableRows]:
    """Split rows into sets without conflicts: as few as first fit finds."""
    sets: list[ComparableRows] = []
    for group in groups:
        chosen = next((found for found in sets if found.accepts(group)), None)
        if chosen is None:
            chosen = ComparableRows()
            sets.append(chosen)
        chosen.groups.append(group)
    return _merge_sharing(sets)


def _merge_sharing(sets: Sequence[ComparableRows]) -> list[ComparableRows]:
    """Merge sets that now share a task."""
    found: list[ComparableRows] = []
    for each in sets:
        home = next((other for other in found if other.accepts(each)), None)
        if home is None:
            found.append(each)
        else:
            home.groups.extend(each.groups)
    return found if len(found) == len(sets) else _merge_sharing(found)


def exclusion_reasons(
    ours: ComparableRows, others: Sequence[tuple[str, RunGroup]]
) -> tuple[str, ...]:
    """Return for each row of other boards why it is not on this one.

    Args:
        ours: The board's rows.
        others: Name and runs of the other boards' rows.
    """
    found = []
    for name, group in others:
        shared = set(ours.settings) & set(group.settings)
        why = list(conflicts(ours.settings, group.settings)) if shared else ["no task in common"]
        reason = "; ".join(why) or "other rows of its board do not compare with these"
        found.append(f"{name} is kept apart: {reason}.")
    return tuple(found)


def conflicts(ours: RowSettings, theirs: RowSettings) -> Iterator[str]:
    """Yield each setting that two rows differ in: task, setting and both values."""
    for task in sorted(set(ours) & set(theirs)):
        found = dict(_different(ours[task], theirs[task]))
        if len(found) > 1:
            found.pop(DATA_FINGERPRINT, None)  # it follows from another setting, which says more
        for name, (here, there) in found.items():
            yield f"{task}: {name.replace('_', ' ')} {there}, here {here}"


def _different(
    ours: Iterable[Settings], theirs: Iterable[Settings]
) -> Iterator[tuple[str, tuple[str, str]]]:
    ours, theirs = tuple(ours), tuple(theirs)
    names = dict.fromkeys(name for settings in (*ours, *theirs) for name in settings)
    for name in names:
        here, there = (
            ", ".join(sorted({str(settings.get(name)) for settings in side}))
            for side in (ours, theirs)
        )
        if here != there:
            yield name, (here, there)

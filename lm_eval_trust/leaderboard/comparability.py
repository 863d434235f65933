"""Which rows can be compared: those whose tasks were evaluated with the same settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lm_eval_trust.leaderboard.rows import Group
from lm_eval_trust.leaderboard.settings import RowSettings, conflicts


@dataclass
class Comparable:
    """Rows without a conflict between any two of them.

    Attributes:
        groups: The rows.
    """

    groups: list[Group] = field(default_factory=list)

    @property
    def settings(self) -> RowSettings:
        """Task → settings, which all rows with that task share."""
        return {task: found for group in self.groups for task, found in group.settings.items()}

    def takes(self, rows: Group | Comparable) -> bool:
        """Tell whether other rows have a task in common with these, and no conflict with any."""
        ours, theirs = self.settings, rows.settings
        return bool(set(ours) & set(theirs)) and not any(conflicts(ours, theirs))


def divide(groups: Iterable[Group]) -> list[Comparable]:
    """Return the rows in as few sets as first fit finds, each without a conflict."""
    sets: list[Comparable] = []
    for group in groups:
        chosen = next((found for found in sets if found.takes(group)), None)
        if chosen is None:
            chosen = Comparable()
            sets.append(chosen)
        chosen.groups.append(group)
    return _joined(sets)


def _joined(sets: Sequence[Comparable]) -> list[Comparable]:
    """Return the sets, those together that came to have a task in common by later rows."""
    found: list[Comparable] = []
    for each in sets:
        home = next((other for other in found if other.takes(each)), None)
        if home is None:
            found.append(each)
        else:
            home.groups.extend(each.groups)
    return found if len(found) == len(sets) else _joined(found)


def reasons(ours: Comparable, others: Sequence[tuple[str, Group]]) -> tuple[str, ...]:
    """Return for each row of other boards why it is not here.

    Args:
        ours: The board's rows.
        others: Name and runs of the other boards' rows.
    """
    found = []
    for name, group in others:
        shared = set(ours.settings) & set(group.settings)
        why = list(conflicts(ours.settings, group.settings)) if shared else ["no task in common"]
        told = "; ".join(why) or "rows beside it do not compare with these"
        found.append(f"{name} is kept apart: {told}.")
    return tuple(found)

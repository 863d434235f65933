"""Before anything is run: what would be, on how many items, and what these could show.

Nothing is known yet of how two models differ on the items, so a planning value takes its place: the
share of items on which they are expected to disagree while nothing is lost or won.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lm_eval_trust.analysis.comparison import PairedDifferences
from lm_eval_trust.gate.check_file import Check
from lm_eval_trust.gate.intervals import Contrast
from lm_eval_trust.gate.power import Design
from lm_eval_trust.gate.report_text import items_in_groups, number
from lm_eval_trust.gate.rules import Rule
from lm_eval_trust.gate.run import evaluator_of, tasks_of
from lm_eval_trust.gate.spec import DIFFERENCES


def plan(check: Check, cache: Path | None = None) -> Iterator[str]:
    """Return lines that tell what would be run, and what the items could show.

    Args:
        check: Which.
        cache: Folder of measurements.

    Raises:
        InputError: Something in the file does not fit.
        ExternalError: A model or data cannot be fetched.
    """
    steered, reference = check.subjects()
    evaluator = evaluator_of(cache)
    subjects = {"steered": steered, "unsteered": reference}
    yield f"{check.path}:"
    for name, members in tasks_of(check).items():
        for task in members:
            missing = [
                label
                for label, subject in subjects.items()
                if subject is not None and evaluator.kept(subject, task) is None
            ]
            todo = f"to be run {' and '.join(missing)}" if missing else "measured already"
            groups = task.groups
            yield f"  {task.name}: {items_in_groups(len(groups), len(set(groups)))}, {todo}"
            for rule in check.rules:
                if rule.task == name and rule.kind in DIFFERENCES:
                    yield f"    {rule.metric} {rule.text}: {_power(rule, groups, check)}"


def planned_contrast(groups: Sequence[str], disagreement: float) -> Contrast:
    """Return what is expected of yes-or-no items: as many groups won as lost.

    Args:
        groups: Group of each item; items of a group are expected to change together.
        disagreement: Share of the groups on which the two models differ.
    """
    names = list(dict.fromkeys(groups))
    differing = round(len(names) * disagreement)
    change = {name: (-1.0) ** n if n < differing else 0.0 for n, name in enumerate(names)}
    after = [change[group] for group in groups]
    return Contrast(PairedDifferences.of(np.zeros(len(after)), after, groups), step=1.0, reach=1.0)


def _power(rule: Rule, groups: Sequence[str], check: Check) -> str:
    design = Design.of(planned_contrast(groups, check.spec.disagreement), rule.confidence)
    share = f"{check.spec.disagreement:.0%} of the answers differing"
    if rule.kind == "non_inferiority":
        return f"with {share}, a margin of {number(design.smallest_shown())} could be shown"
    smallest = design.smallest_shown(rule.bound)
    kind = "drop" if rule.kind == "max_drop" else "gain"
    if smallest > 1:
        return f"with {share}, no {kind} could be shown"
    return f"with {share}, a {kind} of {number(smallest)} could be shown"

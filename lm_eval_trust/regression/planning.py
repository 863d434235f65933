"""Before anything is run: what would be, on how many items, and what these could show.

Nothing is known yet of how two models differ on the items, so a planning value takes its place: the
share of items on which they are expected to disagree while nothing is lost or won.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lm_eval_trust.analysis.comparison import PairedDifferences
from lm_eval_trust.regression.declaration import Check
from lm_eval_trust.regression.evaluation import Tasks
from lm_eval_trust.regression.intervals import Contrast
from lm_eval_trust.regression.measuring import evaluator_of
from lm_eval_trust.regression.power import Design
from lm_eval_trust.regression.rules import Rule
from lm_eval_trust.regression.spec import DIFFERENCES
from lm_eval_trust.regression.wording import number


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
    tasks = Tasks(check.spec.metadata)
    evaluator = evaluator_of(cache)
    subjects = {"steered": steered, "unsteered": reference}
    yield f"{check.path}:"
    for name in check.spec.rules:
        with check.document.at("rules", name):
            members = tasks.members(name, check.spec.limit_of(name))
        for task in members:
            missing = [
                label
                for label, subject in subjects.items()
                if subject is not None and evaluator.kept(subject, task) is None
            ]
            todo = f"to be run {' and '.join(missing)}" if missing else "measured already"
            yield f"  {task.name}: {task.size} items, {todo}"
            for rule in check.rules:
                if rule.task == name and rule.kind in DIFFERENCES:
                    yield f"    {rule.metric} {rule.text}: {_power(rule, task.size, check)}"


def planned_contrast(items: int, disagreement: float) -> Contrast:
    """Return what is expected of yes-or-no items: as many won as lost.

    Args:
        items: How many, each a group of its own.
        disagreement: Share of the items on which the two models differ.
    """
    differing = round(items * disagreement)
    values = np.zeros(items)
    values[:differing] = np.where(np.arange(differing) % 2, -1.0, 1.0)
    return Contrast(PairedDifferences.of(np.zeros(items), values), step=1.0, reach=1.0)


def _power(rule: Rule, items: int, check: Check) -> str:
    design = Design.of(planned_contrast(items, check.spec.disagreement), rule.confidence)
    share = f"{check.spec.disagreement:.0%} of the answers differing"
    if rule.kind == "non_inferiority":
        return f"with {share}, a margin of {number(design.smallest_shown())} could be shown"
    smallest = design.smallest_shown(rule.bound)
    kind = "drop" if rule.kind == "max_drop" else "gain"
    if smallest > 1:
        return f"with {share}, no {kind} could be shown"
    return f"with {share}, a {kind} of {number(smallest)} could be shown"

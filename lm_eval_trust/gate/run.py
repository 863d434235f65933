"""All that a check measures, kept and found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.gate.check_file import Check
from lm_eval_trust.gate.evaluation import Evaluator, LoadedTask, Tasks
from lm_eval_trust.gate.measurement import Measurement
from lm_eval_trust.gate.models import Subject
from lm_eval_trust.gate.paired_test import check_kind
from lm_eval_trust.gate.rules import Rule

#: Name in the rules → a measurement of each task that it stands for.
ByName = Mapping[str, list[Measurement]]


@dataclass(frozen=True)
class Measured:
    """The measurements of a check.

    Attributes:
        subject: The checked model.
        steered: What it scores.
        unsteered: What the model scores that it is compared with; empty where none is.
    """

    subject: Subject
    steered: ByName
    unsteered: ByName


def evaluator_of(cache: Path | None) -> Evaluator:
    """Return the evaluator of a folder of measurements; by default in the user's cache."""
    return Evaluator(cache or cache_dir() / "checks")


def tasks_of(check: Check) -> dict[str, list[LoadedTask]]:
    """Return the tasks that each name in the rules stands for.

    Raises:
        InputError: One is wrong or has no data, or a rule cannot be held on its metric.
        ExternalError: Data or a judge cannot be fetched.
    """
    tasks, members = Tasks(check.spec.metadata), {}
    for name in check.spec.rules:
        with check.document.at("rules", name):
            members[name] = tasks.members(name, check.spec.limit_of(name))
    for rule in check.rules:
        with check.document.at(*rule.place):
            for task in members[rule.task]:
                _check_rule(rule, task)
    return members


def _check_rule(rule: Rule, task: LoadedTask) -> None:
    metric = rule.metric.partition(",")[0]
    aggregation = task.aggregations.get(metric)
    if rule.compares and aggregation is not None:
        better = task.task.higher_is_better().get(metric)
        check_kind(rule.kind, task.name, metric, aggregation, better)


def measure(check: Check, cache: Path | None, *, reference: bool = True) -> Measured:
    """Measure what is not measured yet.

    Args:
        check: Which.
        cache: Folder of measurements.
        reference: Whether to measure what the checked model is compared with, too.

    Raises:
        InputError: Something in the file does not fit.
        ExternalError: A model, data or a judge cannot be fetched.
    """
    subject, unsteered = check.subjects()
    members = tasks_of(check)
    subjects = [subject, unsteered] if reference and unsteered is not None else [subject]
    total = len(subjects) * sum(map(len, members.values()))
    evaluator = evaluator_of(cache)
    with tqdm(total=total, desc=check.path.name, unit="task") as bar:
        found = [_measure_all(evaluator, each, members, bar) for each in subjects]
    return Measured(subject, found[0], found[1] if len(found) > 1 else {})


def _measure_all(
    evaluator: Evaluator,
    subject: Subject,
    members: Mapping[str, list[LoadedTask]],
    bar: tqdm[None],
) -> ByName:
    found: dict[str, list[Measurement]] = {name: [] for name in members}
    for name, tasks in members.items():
        for task in tasks:
            found[name].append(evaluator.measure(subject, task))
            bar.update()
    return found
